//! Bugs planted on purpose, to prove that the simulation finds them.
//!
//! **Invariant:** without the feature `mutants` every gate is the constant
//! `false`, and nothing of this is in the program.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A grab does not look whether the user has a share already.
    SkipDuplicateCheck,
    /// A grab at exactly the deadline is in time.
    GrabAtDeadline,
    /// A hold can be claimed at exactly its deadline.
    ClaimHoldAtDeadline,
    /// Records are projected when they are staged.
    ProjectBeforeDurable,
    /// Nobody waits for the disk.
    AnswerBeforeDurable,
    /// Only repeats do not wait for the disk.
    RepeatBeforeDurable,
    /// An envelope ends without its sender's refund.
    ForgetRefund,
    /// The units of an expired hold come back twice.
    ReturnUnitsTwice,
    /// The units of an expired hold never come back.
    ReturnUnitsNever,
    /// A sale is sold out though holds are due.
    IgnoreDueHolds,
    /// Answers kept under keys are not looked up in the store.
    ForgetKeys,
    /// Claims are not loaded from the store.
    ForgetClaims,
    /// A claim is one record and its credit another.
    CreditInOwnRecord,
    /// The journal forgets what the store has applied and not persisted.
    ReleaseUnpersisted,
    /// What a killed process left unpersisted is taken for persisted.
    TrustUnpersistedRows,
    /// A claim makes two payouts.
    PayOutTwice,
    /// What goes back to whoever funded from outside goes to the sender's wallet as well.
    RefundWalletToo,
    /// What is paid is counted twice.
    CountPaidTwice,
    /// An answer kept under a key tells a message again that was taken back.
    RepeatRedacted,
    /// What was taken back is told again once it is read from the store.
    ForgetRedactions,
    /// A grab does not look whether the item's merchant may sell.
    SellSuspended,
    /// After a start only the merchant's own shard knows that it may not sell.
    ForgetSuspensions,
    /// A gift can be accepted at exactly its deadline.
    AcceptAtDeadline,
    /// An item is sold out though a gift that is due holds a unit of it.
    IgnoreDueGifts,
    /// The unit of a gift that failed never comes back.
    KeepUnitOfFailed,
    /// A commission is rounded up.
    RoundCommissionUp,
    /// After a start nobody knows what is due to merchants.
    ForgetSlots,
    /// What is settled is pending still, and is settled again.
    SettleTwice,
    /// A sealed address is staged before its slot is synced.
    StageBeforeSlot,
    /// An address is told to be erased and its slot is not overwritten.
    KeepSlot,
    /// The last code that was handed out is handed out again.
    HandCodeAgain,
    /// Codes that an item has had are not looked up in the store.
    ForgetCodes,
    /// Nobody looks whether one of two users has blocked the other.
    IgnoreBlocks,
    /// Who has blocked whom is not looked up in the store.
    ForgetRelations,
    /// A grab of a gift does not look whether the user has one already.
    GrabGiftAgain,
    /// A payment that was refunded is refunded again.
    RefundPaymentTwice,
    /// Money that comes too late for what it was for stays nowhere.
    LoseLatePayment,
    /// Who is a member of a group joins it again, and pays again.
    JoinTwice,
    /// When a group comes to nothing, one of its members has no money back.
    ForgetMember,
}

impl Mutant {
    /// All of them that the simulation has to find.
    pub const ALL: [Mutant; 35] = [
        Mutant::SkipDuplicateCheck,
        Mutant::GrabAtDeadline,
        Mutant::ClaimHoldAtDeadline,
        Mutant::ProjectBeforeDurable,
        Mutant::AnswerBeforeDurable,
        Mutant::RepeatBeforeDurable,
        Mutant::ForgetRefund,
        Mutant::ReturnUnitsTwice,
        Mutant::ReturnUnitsNever,
        Mutant::IgnoreDueHolds,
        Mutant::ForgetKeys,
        Mutant::ForgetClaims,
        Mutant::CreditInOwnRecord,
        Mutant::ReleaseUnpersisted,
        Mutant::TrustUnpersistedRows,
        Mutant::PayOutTwice,
        Mutant::RefundWalletToo,
        Mutant::CountPaidTwice,
        Mutant::RepeatRedacted,
        Mutant::ForgetRedactions,
        Mutant::SellSuspended,
        Mutant::ForgetSuspensions,
        Mutant::AcceptAtDeadline,
        Mutant::IgnoreDueGifts,
        Mutant::KeepUnitOfFailed,
        Mutant::RoundCommissionUp,
        Mutant::ForgetSlots,
        Mutant::SettleTwice,
        Mutant::HandCodeAgain,
        Mutant::ForgetCodes,
        Mutant::IgnoreBlocks,
        Mutant::ForgetRelations,
        Mutant::GrabGiftAgain,
        Mutant::JoinTwice,
        Mutant::ForgetMember,
    ];

    /// Those that are found where disks and keys are looked at, and not by the simulation.
    pub const OF_ADDRESSES: [Mutant; 2] = [Mutant::StageBeforeSlot, Mutant::KeepSlot];

    /// Those that random stories of payments have to find.
    pub const OF_PAYMENTS: [Mutant; 2] = [Mutant::RefundPaymentTwice, Mutant::LoseLatePayment];
}

#[cfg(feature = "mutants")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug into all engines that run on this thread, or none.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

/// Whether this bug is planted here.
#[cfg(feature = "mutants")]
pub(crate) fn is_planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

/// Whether this bug is planted here: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn is_planted(_: Mutant) -> bool {
    false
}
