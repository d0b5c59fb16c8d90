//! Protocols with one rule less, each of which a search has to find out.

/// A rule that is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    // Funding.
    DebitBeforeKeyConfirmed,
    FillBeforeDebitConfirmed,
    FillWithoutGuard,
    DebitWithoutGuard,
    OpenBeforeFillsConfirmed,
    ForgetFundingBeforeOpenConfirmed,
    ReplaceWithoutVoid,
    ReplaceBeforeVoidConfirmed,
    // Pools.
    GrantWithoutSequence,
    GrantBeforeConfirmed,
    RetryAsNewGrant,
    RecallBeforeConfirmed,
    ReportBeforeConfirmed,
    NoteWithoutSequence,
    SoldOutWithOpenRecall,
    SoldOutByAnOldReport,
    EmptyMeansSoldOut,
    EndBeforeConfirmed,
    CloseForgetsOpenTransfer,
    ResolveBeforeAllClosed,
    DeadMoverIsNotFollowed,
    AnswerBeforeConfirmed,
    UsersMove,
    ClaimAfterLapse,
    GrabTwice,
    // Crossing slots.
    CreditBeforeCauseConfirmed,
    ConfirmOnAnotherConnection,
    CreditWithoutMarker,
    DeleteBeforeEffectConfirmed,
    RefundWithoutReason,
    SettlerWithoutFence,
    GenerationLearnedLater,
    ArchiveWithoutNewGeneration,
    ArchiveBeforeGenerationConfirmed,
    FillWithoutFence,
    TurnWhileCauseWaits,
    ClaimAnsweredBeforeCreditConfirmed,
    // Holds.
    PayBeforeConfirmed,
    LapseWhilePaying,
    UnpaidWithoutMark,
    UnpaidOfAnotherOrder,
    SoldBeforePaymentConfirmed,
    // Limits.
    GrabBeforeLimitConfirmed,
    ReleaseWithoutBar,
    ReleaseBeforeNoConfirmed,
    ReleaseOfAnotherAttempt,
    BarIsNotAsked,
}
