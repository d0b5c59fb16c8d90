//! Copies of envelopes in pools: whole in a directory, where nobody has some of
//! the shares in between, and in pools again in the deployment they come back into.

use crate::copy::{Random, Stage, Story, assert_same, open, without_entries};
use crate::deployment::{Deployment, is_missing};
use crate::stand::{envelope, fen, user};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::*;
use hongbao_engine::redis::{CopyError, RedisBackend};
use hongbao_engine::types::*;
use std::collections::BTreeSet;

/// No finding, and nothing that was not compared.
fn assert_audited(deployment: &Deployment) {
    let attached = deployment.drive(RedisBackend::attach(deployment.options.clone())).expect("it is there");
    let audit = deployment.drive(attached.audit_rows(&mut |_| ())).expect("it can be read");
    assert_eq!((audit.findings.as_slice(), audit.unsettled, audit.settled), (&[][..], 0, true));
    assert_eq!(audit.totals.in_flight, 0);
}

#[test]
fn stories_in_pools_are_copied_into_a_directory_and_back() {
    if is_missing() {
        return;
    }
    for (seed, pools, pools_back) in [(31, 3, 3), (32, 3, 5), (33, 8, 1)] {
        // Engines that draw differently: what one makes the other must not make again.
        let mut stage = Stage::over(seed, Deployment::in_pools(100 + seed, pools));
        let (mut story, mut random) = (Story::default(), Random(seed));
        let redis = stage.deployment.open();
        stage.deployment.drive(story.tell(&redis, &mut random, &stage.world));
        stage.deployment.settle(&redis);

        let first = stage.path("first");
        for most in [0, 40, 41] {
            let stopped = stage.to_directory(&first, Some(most));
            assert!(matches!(stopped, Err(CopyError::Stopped)), "{stopped:?}");
        }
        stage.to_directory(&first, None).expect("it is copied");
        let told = stage.deployment.drive(story.read(&redis));
        let engine = open(&first, &stage.embedded);
        assert_same(&told, &stage.deployment.drive(story.read(&engine)), seed, "right is the directory");
        let repeats = stage.deployment.drive(story.repeat(&redis));
        assert_same(&repeats, &stage.deployment.drive(story.repeat(&engine)), seed, "right is the directory");

        // It goes on there, with the shares that nobody has.
        stage.deployment.drive(story.tell(&engine, &mut random, &stage.world));
        engine.close().expect("it closes");
        drop(engine);
        let engine = open(&first, &stage.embedded);
        story.until_due_gifts_end(&stage, &engine);
        let told = stage.deployment.drive(story.read(&engine));
        let repeats = stage.deployment.drive(story.repeat(&engine));
        engine.close().expect("it closes");
        drop(engine);

        stage.deployment.options.redis.key_prefix.push_str("back");
        stage.deployment.options.redis.buckets = pools_back;
        let mut stops = 0;
        while let Err(stopped) = stage.to_redis(&first, Some(97)) {
            assert!(matches!(stopped, CopyError::Stopped), "{stopped}");
            stops += 1;
        }
        assert!(stops > 4, "it was interrupted {stops} times");
        let back = stage.deployment.open();
        assert_same(&told, &stage.deployment.drive(story.read(&back)), seed, "right is copied back");
        assert_same(&repeats, &stage.deployment.drive(story.repeat(&back)), seed, "right is copied back");
        assert_audited(&stage.deployment);

        // Both come to the same end.
        stage.world.advance_s(400);
        stage.deployment.settle(&back);
        let engine = open(&first, &stage.embedded);
        story.until_due_gifts_end(&stage, &engine);
        let told = without_entries(&stage.deployment.drive(story.read(&engine)));
        engine.close().expect("it closes");
        assert_same(&told, &without_entries(&stage.deployment.drive(story.read(&back))), seed, "right is copied back");
        assert_audited(&stage.deployment);
        stage.deployment.drive(story.tell(&back, &mut random, &stage.world));
        stage.deployment.settle(&back);
        assert_audited(&stage.deployment);
    }
}

const SHARES: u32 = 120;

/// New users who grab from one envelope, and the shares they have.
struct Hunt {
    id: EnvelopeId,
    users: u32,
    won: BTreeSet<u32>,
}

impl Hunt {
    async fn grab(&mut self, backend: &impl Backend, most: usize) {
        for _ in 0..most {
            let grab = Command::Grab { envelope: self.id, user: user(&format!("u{}", self.users)) };
            self.users += 1;
            match backend.execute(grab, None).await.expect("it is answered").outcome {
                Outcome::Won { share, replayed: false, .. } => assert!(self.won.insert(share), "{share} is won twice"),
                other => assert_eq!((other, self.won.len()), (Outcome::SoldOut, SHARES as usize)),
            }
        }
    }
}

/// Nobody has some of the first shares, and all are grabbed: each once, wherever the envelope is by then.
#[test]
fn every_share_that_is_free_has_one_winner_after_a_copy() {
    if is_missing() {
        return;
    }
    for auto_claim in [false, true] {
        let mut stage = Stage::over(41, Deployment::in_pools(141, 3));
        let redis = stage.deployment.open();
        let total = u64::from(SHARES) * 10;
        let id = stage.deployment.drive(async {
            let all = Transfer { user: user("alice"), amount: fen(total), reference: None };
            redis.execute(Command::Deposit(all), None).await.expect("it is answered");
            let terms = NewEnvelope { auto_claim, ..envelope(total, SHARES) };
            match redis.execute(Command::CreateEnvelope(Box::new(terms)), None).await.expect("it is answered").outcome {
                Outcome::Envelope(view) => view.id,
                other => panic!("{other:?}"),
            }
        });
        let mut hunt = Hunt { id, users: 0, won: BTreeSet::new() };
        stage.deployment.drive(hunt.grab(&redis, 30));
        assert!(hunt.won.last() > Some(&30), "no share in between is free: {:?}", hunt.won);
        stage.deployment.settle(&redis);
        let first = stage.path("first");
        stage.to_directory(&first, None).expect("it is copied");
        let engine = open(&first, &stage.embedded);
        stage.deployment.drive(hunt.grab(&engine, 15));
        // Without a goodbye: what was grabbed is replayed over what was copied.
        drop(engine);
        let engine = open(&first, &stage.embedded);
        stage.deployment.drive(hunt.grab(&engine, 15));
        assert_eq!(hunt.won.range(..30).count(), 30, "what is free in between is taken first: {:?}", hunt.won);
        engine.close().expect("it closes");
        drop(engine);
        stage.deployment.options.redis.key_prefix.push_str("back");
        stage.to_redis(&first, None).expect("it is copied");
        let back = stage.deployment.open();
        stage.deployment.drive(hunt.grab(&back, 40));
        stage.deployment.settle(&back);
        let second = stage.path("second");
        stage.to_directory(&second, None).expect("it is copied");
        let engine = open(&second, &stage.embedded);
        stage.deployment.drive(hunt.grab(&engine, 25));
        assert_eq!(hunt.won.len(), SHARES as usize);
        engine.close().expect("it closes");
    }
}
