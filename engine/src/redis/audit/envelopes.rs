//! Envelopes: figures, shares, winners, lists, and the money that left them.

use super::{BYTES, Finding, FindingKind, Look, readable};
use crate::command::{EndedAs, Unclaimed};
use crate::event::EnvelopeCreated;
use crate::payout::PayoutTo;
use crate::redis::archive::rows::{Listed, listed};
use crate::redis::backend::{Core, Result};
use crate::redis::bucket::Bucket;
use crate::redis::commands::figures;
use crate::redis::reads::Win;
use crate::redis::reply::{Answer, damaged};
use crate::redis::rows::{packed, width};
use crate::split::Shares;
use crate::state::envelope::Figures;
use crate::types::{Amount, EnvelopeId};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Looks at an envelope that does not come to rest.
const LOOKS: usize = 4;
/// Winners taken at a time.
const WINNERS: usize = 256;
/// Splits of more shares are not compared one by one: that would take a second each.
pub(super) const COMPARE_SHARES_MAX: u32 = 1_000_000;

/// An envelope as it stands in one bucket.
pub(in crate::redis) struct Whole {
    pub(in crate::redis) created: EnvelopeCreated,
    pub(in crate::redis) figures: Figures,
    /// Winners who claimed.
    pub(in crate::redis) claimed: u32,
    /// Bytes of a share.
    pub(in crate::redis) width: u64,
    /// Whether it has left Redis.
    pub(in crate::redis) archived: bool,
    row: Answer,
}

impl Core {
    /// An envelope of the one form there is: whole in its bucket. One of
    /// another form is an error and never half read.
    pub(in crate::redis) async fn whole_envelope(&self, id: EnvelopeId) -> Result<Option<Whole>> {
        let fields =
            ["created", "width", "ended", "settled", "taken", "taken_amount", "claimed_amount", "refunded", "claimed"];
        let (row, archived) = self.envelope_fields(id, fields).await?;
        // A mass envelope is whole only once all of it has left Redis.
        let is_whole = archived || !id.is_mass();
        let Some(created) = row.maybe(0).filter(|_| is_whole) else { return Ok(None) };
        let created = EnvelopeCreated::of_bytes(created).ok_or_else(|| damaged("an envelope"))?;
        if row.maybe(1).is_none() || created.id != id {
            return Err(damaged("an envelope"));
        }
        let (figures, claimed, width) = (figures(&row, 2)?, row.units(8)?, row.number(1)?);
        Ok(Some(Whole { created, figures, claimed, width, archived, row }))
    }

    /// Winners by share, from `first` on; none is the end.
    pub(in crate::redis) async fn winners(&self, envelope: &Whole, first: u64) -> Result<Vec<Win>> {
        match envelope.archived {
            true => self.archived_wins(envelope.created.id, first, WINNERS).await,
            false => self.wins(&envelope.created, envelope.width, first, WINNERS).await,
        }
    }
}

/// What winners have.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) shares: u64,
    pub(super) amount: u64,
    pub(super) claimed: u64,
    pub(super) claimed_amount: u64,
}

impl Look<'_> {
    pub(super) async fn envelopes(&mut self) -> Result<()> {
        for name in self.names.envelopes.sorted() {
            let Ok(id) = name.parse::<EnvelopeId>() else {
                self.found(FindingKind::Unreadable, format!("{name}: no envelope has this id"));
                continue;
            };
            if id.is_mass() {
                self.counts.envelopes += 1;
                let kept = self.in_reserve(id).await;
                self.told_of(&id.to_string(), kept)?;
                continue;
            }
            let looked = self.envelope(id).await;
            self.told_of(&id.to_string(), looked)?;
        }
        let listed = self.core.sizes(self.bucket, [self.core.layout.envelopes_by_time(self.bucket)]).await?;
        let what = format!("envelopes listed in bucket {}", self.bucket.number());
        self.expect(FindingKind::List, &what, listed[0], self.counts.envelopes);
        Ok(())
    }

    async fn envelope(&mut self, id: EnvelopeId) -> Result<()> {
        let mut split_seen = false;
        for nth in 1.. {
            let Some(envelope) = self.core.whole_envelope(id).await? else { return Err(damaged("its row")) };
            if envelope.archived {
                // It left Redis since its name was told.
                return Ok(());
            }
            if !split_seen {
                split_seen = true;
                self.counts.envelopes += 1;
                self.split(&envelope).await?;
            }
            let mut found = Vec::new();
            let taken = self.taken(&envelope, None, &mut found).await?;
            let again = self.core.whole_envelope(id).await?;
            let still = again.is_some_and(|again| again.row == envelope.row);
            if still || nth == LOOKS {
                self.counts.wins += taken.shares;
                self.findings.append(&mut found);
                let Whole { created, figures, claimed, .. } = &envelope;
                self.figures(created, figures, *claimed, &taken, still);
                self.deadline(created, figures).await?;
                return self.ways(created, figures).await;
            }
        }
        Ok(())
    }

    /// I3: the shares are the split's.
    async fn split(&mut self, envelope: &Whole) -> Result<()> {
        let created = &envelope.created;
        if created.terms.shares > COMPARE_SHARES_MAX {
            return Ok(());
        }
        let split = created.split();
        let (width, planned) = (width(&split), packed(&split));
        let key = self.core.layout.shares(created.id);
        let length = self.core.sizes(self.bucket, [key.clone()]).await?[0];
        if width != envelope.width || length != planned.len() as u64 {
            self.found(
                FindingKind::Share,
                format!("{}: {length} bytes of shares, the split has {}", created.id, planned.len()),
            );
            return Ok(());
        }
        for (nth, part) in planned.chunks(BYTES).enumerate() {
            let first = nth * BYTES;
            let found = self.core.bytes_of(self.bucket, &key, first as u64, (first + part.len()) as u64).await?;
            if let Some(at) = part.iter().zip(&found).position(|(planned, found)| planned != found) {
                let share = (first + at) as u64 / width;
                self.found(
                    FindingKind::Share,
                    format!("{}: share {share} is not what the split has for it", created.id),
                );
                return Ok(());
            }
        }
        Ok(())
    }

    /// I3: one user a share, one share a user; and what came of each.
    /// With a split also whether each has what that has for it.
    pub(super) async fn taken(
        &mut self,
        envelope: &Whole,
        split: Option<&Shares>,
        found: &mut Vec<Finding>,
    ) -> Result<Taken> {
        let id = envelope.created.id;
        let figures = u64::from(envelope.figures.taken);
        let mut taken = Taken::default();
        // In pools shares are grabbed in no order, so some may be left out.
        let has_gaps = id.is_mass();
        let mut first = 0;
        while taken.shares < figures {
            let mut page = self.core.winners(envelope, first).await?;
            page.truncate((figures - taken.shares) as usize);
            if page.is_empty() {
                break;
            }
            let mut looked = JoinSet::new();
            for win in page {
                if u64::from(win.share) != taken.shares && !has_gaps {
                    let what =
                        format!("{id}: {} stands for share {} and has share {}", win.user, taken.shares, win.share);
                    found.push(Finding { kind: FindingKind::Share, what });
                }
                if split.is_some_and(|split| win.share < split.len() && split.get(win.share) != win.amount) {
                    let what = format!("{id}: share {} is not what the split has for it", win.share);
                    found.push(Finding { kind: FindingKind::Share, what });
                }
                taken.shares += 1;
                first = if has_gaps { u64::from(win.share) + 1 } else { taken.shares };
                taken.amount += win.amount.minor();
                if win.claimed_at.is_some() {
                    taken.claimed += 1;
                    taken.claimed_amount += win.amount.minor();
                }
                let (core, bucket, name) = (Arc::clone(&self.core), self.bucket, format!("{id}, {}", win.user));
                let is_outside = envelope.created.terms.outside.payout == PayoutTo::External;
                looked.spawn(async move { readable(&name, what_came_of(core, bucket, id, win, is_outside).await) });
            }
            while let Some(came) = looked.join_next().await {
                found.extend(came.expect("a look does not panic")?);
            }
        }
        Ok(taken)
    }

    /// I2. What only grows holds at any time; the rest if nobody changed it meanwhile.
    pub(super) fn figures(
        &mut self,
        created: &EnvelopeCreated,
        figures: &Figures,
        claimed: u32,
        taken: &Taken,
        still: bool,
    ) {
        let (id, total) = (created.id, created.terms.total.minor());
        let (won, back) = (figures.taken_amount.minor(), figures.refunded.minor());
        let mut expect = |what: &str, told: u64, rows: u64| {
            if told != rows {
                let what = format!("{id}: {what}: {told} is on record, the rows make {rows}");
                self.found(FindingKind::Envelope, what);
            }
        };
        expect("shares that are taken", figures.taken.into(), taken.shares);
        expect("money in shares that are taken", won, taken.amount);
        if still {
            expect("shares that are claimed", claimed.into(), taken.claimed);
            expect("money that is claimed", figures.claimed.minor(), taken.claimed_amount);
        }
        let unsold = total.saturating_sub(won);
        let unclaimed = won.saturating_sub(figures.claimed.minor());
        let goes_back = match (figures.ended, figures.settled) {
            (None | Some(EndedAs::SoldOut), false) => 0,
            (Some(EndedAs::Expired | EndedAs::Cancelled), false) => unsold,
            (_, true) if created.terms.unclaimed == Unclaimed::Return => unsold + unclaimed,
            (_, true) => unsold,
        };
        expect("money gone back", back, goes_back);
        if figures.ended == Some(EndedAs::SoldOut) {
            expect("shares of a sold out envelope", figures.taken.into(), created.terms.shares.into());
            expect("money of a sold out envelope", total, won);
        }
        let gone = figures.claimed.minor() + back;
        if gone > total || (figures.settled && gone != total) {
            self.found(FindingKind::Envelope, format!("{id}: {gone} left it of {total}, settled: {}", figures.settled));
        }
        self.money.escrowed += total.saturating_sub(gone);
    }

    /// The deadline at which it is looked at again.
    pub(super) async fn deadline(&mut self, created: &EnvelopeCreated, figures: &Figures) -> Result<()> {
        if figures.settled {
            return Ok(());
        }
        let by = if figures.ended.is_some() { created.claim_by } else { created.expires_at };
        if self.due_at(created.id).await? != Some(by.ms() as i64) {
            let what = format!("{}: nobody will look at it at its deadline {}", created.id, by.ms());
            self.found_if_still(FindingKind::List, what);
        }
        Ok(())
    }

    /// When it is looked at again, if ever.
    pub(super) async fn due_at(&self, id: EnvelopeId) -> Result<Option<i64>> {
        let due = [[b"e", &id.bytes()[..]].concat()];
        Ok(self.core.scores(self.bucket, self.core.layout.due(self.bucket), &due).await?[0])
    }

    /// The lists that lead to it, and the money that came and went.
    pub(super) async fn ways(&mut self, created: &EnvelopeCreated, figures: &Figures) -> Result<()> {
        let (id, sender) = (created.id, &created.terms.sender);
        let (core, member) = (Arc::clone(&self.core), [id.bytes().to_vec()]);
        let made = Some(-(created.created_at.ms() as i64));
        if core.scores(self.bucket, core.layout.envelopes_by_time(self.bucket), &member).await?[0] != made {
            self.found(FindingKind::List, format!("{id}: it is missing from the list of all envelopes"));
        }
        // Users' rows leave Redis before the envelope's own.
        let sent = listed(Listed::Sent(sender), created.created_at.ms(), id.bytes());
        if core.scores(core.layout.of_user(sender), core.layout.sent(sender), &member).await?[0] != made
            && core.are_archived(vec![sent]).await? != [true]
        {
            self.found(FindingKind::List, format!("{id}: it is missing from the list of what {sender} sent"));
        }
        self.moved(created, figures).await
    }

    /// The money that came from its sender and went back there.
    pub(super) async fn moved(&mut self, created: &EnvelopeCreated, figures: &Figures) -> Result<()> {
        let (id, sender, core) = (created.id, &created.terms.sender, Arc::clone(&self.core));
        let terms = &created.terms;
        let is_funded = terms.outside.funding.is_some();
        let unsold = match figures.ended {
            Some(EndedAs::Expired | EndedAs::Cancelled) => {
                terms.total.minor().saturating_sub(figures.taken_amount.minor())
            }
            None | Some(EndedAs::SoldOut) => 0,
        };
        let moved = [
            (b"f", terms.total.minor(), "was taken for it"),
            (b"r", unsold, "went back unsold"),
            (b"l", figures.refunded.minor().saturating_sub(unsold), "went back unclaimed"),
        ];
        for (kind, amount, how) in moved.into_iter().filter(|(_, amount, _)| *amount > 0) {
            let effect = [&kind[..], id.bytes()].concat();
            for nth in 0..2 {
                let arrived = match kind {
                    b"f" if is_funded => core.funded_with(core.layout.of_user(sender), id).await?,
                    _ => core.arrived(sender, &effect, id.bytes(), is_funded).await?.amount,
                };
                if arrived.is_some_and(|arrived| arrived.minor() == amount) {
                    break;
                }
                let waits =
                    core.fields(self.bucket, core.layout.outbox(self.bucket), std::slice::from_ref(&effect)).await?;
                if arrived.is_none() && kind != b"f" && waits.maybe(0).is_some() {
                    break;
                }
                if nth == 1 {
                    let there = arrived.map_or(0, Amount::minor);
                    let place = if is_funded && kind == b"f" { "record of funding" } else { place_of(is_funded) };
                    let what = format!("{id}: {amount} {how}, and in the {place} of {sender} stand {there}");
                    self.found(FindingKind::LostMoney, what);
                }
            }
        }
        Ok(())
    }
}

/// Where a user's money is, for people.
pub(super) fn place_of(is_outside: bool) -> &'static str {
    if is_outside { "payout" } else { "wallet" }
}

/// Whether a winner's own list has the share and, if it was claimed, the wallet
/// its money; or they are on their way.
async fn what_came_of(
    core: Arc<Core>,
    cause: Bucket,
    id: EnvelopeId,
    win: Win,
    is_outside: bool,
) -> Result<Option<Finding>> {
    let effect = [b"c", &id.bytes()[..]].concat();
    let user = win.user.as_str().as_bytes();
    let on_their_way = [b"g", b"c"].map(|kind| [&kind[..], id.bytes(), user].concat());
    let mut finding = None;
    for _ in 0..2 {
        let arrived = core.arrived(&win.user, &effect, id.bytes(), is_outside).await?;
        let is_listed = arrived.grabbed_at_ms == Some(win.grabbed_at.ms() as i64);
        let is_paid = arrived.amount == win.claimed_at.map(|_| win.amount);
        if is_listed && is_paid {
            return Ok(None);
        }
        let waits = core.fields(cause, core.layout.outbox(cause), &on_their_way).await?;
        let (grab, claim) = (waits.maybe(0).is_some(), waits.maybe(1).is_some());
        // A grab that claims carries both.
        if (is_listed || grab) && (is_paid || (arrived.amount.is_none() && (grab || claim))) {
            return Ok(None);
        }
        finding = Some(if is_listed {
            let (owed, there) =
                (win.claimed_at.map_or(0, |_| win.amount.minor()), arrived.amount.map_or(0, Amount::minor));
            let place = place_of(is_outside);
            let what = format!("{id}: {} claimed {owed}, and in the {place} stand {there}", win.user);
            Finding { kind: FindingKind::LostMoney, what }
        } else {
            let what = format!("{id}: share {} is missing from the list of what {} received", win.share, win.user);
            Finding { kind: FindingKind::List, what }
        });
    }
    Ok(finding)
}
