//! Envelopes in the archive: the same invariants, from the rows there, and what
//! their users and senders have of them.

use super::envelopes::{COMPARE_SHARES_MAX, Whole};
use super::{Finding, FindingKind, Look};
use crate::redis::archive::rows::{Listed, listed};
use crate::redis::backend::Result;
use crate::redis::reply::damaged;
use crate::types::EnvelopeId;

/// Winners looked for in their lists at a time.
const WINNERS: usize = 256;

impl Look<'_> {
    pub(super) async fn archived(&mut self) -> Result<()> {
        for name in self.names.archived.sorted() {
            let id: EnvelopeId = name.parse().map_err(|_| damaged("an archived envelope"))?;
            let looked = self.archived_envelope(id).await;
            self.told_of(&format!("{id} in the archive"), looked)?;
        }
        Ok(())
    }

    pub(super) async fn archived_envelope(&mut self, id: EnvelopeId) -> Result<()> {
        // One that has not left Redis yet was looked at there.
        let Some(envelope) = self.core.whole_envelope(id).await?.filter(|whole| whole.archived) else { return Ok(()) };
        self.counts.envelopes += 1;
        let terms = &envelope.created.terms;
        let split = (terms.shares <= COMPARE_SHARES_MAX).then(|| envelope.created.split());
        let mut found = Vec::new();
        let taken = self.taken(&envelope, split.as_ref(), &mut found).await?;
        self.counts.wins += taken.shares;
        self.findings.append(&mut found);
        let Whole { created, figures, claimed, .. } = &envelope;
        self.figures(created, figures, *claimed, &taken, true);
        self.moved(created, figures).await?;
        if !envelope.figures.settled {
            self.found(FindingKind::Envelope, format!("{id}: it is archived and not settled"));
        }
        let at_ms = envelope.created.created_at.ms();
        let lists = [listed(Listed::All, at_ms, id.bytes()), listed(Listed::Sent(&terms.sender), at_ms, id.bytes())];
        for (there, list) in
            self.core.are_archived(lists.to_vec()).await?.into_iter().zip(["all envelopes", "its sender"])
        {
            if !there {
                self.found(FindingKind::List, format!("{id}: it is missing from the archive's list of {list}"));
            }
        }
        let mut first = 0;
        loop {
            let wins = self.core.archived_wins(id, first, WINNERS).await?;
            let Some(last) = wins.last() else { return Ok(()) };
            first = u64::from(last.share) + 1;
            let keys = wins.iter().map(|win| listed(Listed::Received(&win.user), win.grabbed_at.ms(), id.bytes()));
            let there = self.core.are_archived(keys.collect()).await?;
            for (win, _) in wins.iter().zip(there).filter(|(_, there)| !there) {
                let what = format!("{id}: share {} is missing from the list of what {} received", win.share, win.user);
                self.findings.push(Finding { kind: FindingKind::List, what });
            }
        }
    }
}
