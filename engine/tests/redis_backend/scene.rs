//! What the audits' scenes have in common: who acts in them, and engines that
//! decide while it is audited.

use crate::deployment::{Deployment, is_missing};
use crate::redis_stand::{RedisServer, ServerOptions};
use crate::stand::{fen, user};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::{Command, NewEnvelope, Outcome, Transfer};
use hongbao_engine::redis::{Finding, RedisBackend};
use hongbao_engine::types::EnvelopeId;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// A server for all scenes of a test.
pub(crate) fn server() -> Option<Arc<RedisServer>> {
    (!is_missing()).then(|| Arc::new(RedisServer::start(ServerOptions::without_aof())))
}

/// A deployment, and an engine in front of it that does what is told.
pub(crate) struct Acts {
    pub(crate) deployment: Deployment,
    pub(crate) backend: RedisBackend,
}

impl Acts {
    pub(crate) fn ask(&self, command: Command) -> Outcome {
        self.deployment.drive(self.backend.execute(command, None)).expect("it is answered").outcome
    }

    pub(crate) fn deposit(&self, name: &str, minor: u64) {
        self.ask(Command::Deposit(Transfer { user: user(name), amount: fen(minor), reference: None }));
    }

    pub(crate) fn give(&self, terms: NewEnvelope) -> EnvelopeId {
        match self.ask(Command::CreateEnvelope(Box::new(terms))) {
            Outcome::Envelope(view) => view.id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn grab(&self, envelope: EnvelopeId, name: &str) {
        let outcome = self.ask(Command::Grab { envelope, user: user(name) });
        assert!(matches!(outcome, Outcome::Won { .. }), "{outcome:?}");
    }

    /// Runs a script behind what finds keys by the deployment's prefix and two ids.
    pub(crate) fn damage(&self, server: &RedisServer, finders: &str, lua: &str, ids: [String; 2]) {
        let script = format!("{finders}\n{lua}\nreturn 'done'");
        let prefix = &self.deployment.options.redis.key_prefix;
        assert_eq!(server.cli(&["EVAL", &script, "0", prefix, &ids[0], &ids[1]]), "done", "{lua}");
    }
}

/// An evening by one of many: the engine, who asks, and for the how manieth time.
pub(crate) type Evening = for<'a> fn(&'a RedisBackend, u64, u64) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Reconciles a deployment again and again while four engines have their evenings in
/// it, without a finding. What it was reconciled with.
pub(crate) fn sound_while_engines_decide(deployment: &mut Deployment, evening: Evening) -> RedisBackend {
    // Time goes by itself here: buckets that nobody writes to come to rest.
    deployment.options.clock = None;
    deployment.options.test_mode = false;
    let stop = Arc::new(AtomicBool::new(false));
    let decided = Arc::new(AtomicI64::new(0));
    let mut askers = Vec::new();
    for asker in 0..4u64 {
        let backend = deployment.open();
        let (stop, decided) = (Arc::clone(&stop), Arc::clone(&decided));
        askers.push(deployment.runtime.spawn(async move {
            for nth in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                evening(&backend, asker, nth).await;
                decided.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let attached = deployment.drive(RedisBackend::attach(deployment.options.clone())).expect("it is there");
    let mut nth = 0;
    while nth < 3 || decided.load(Ordering::Relaxed) < 20 {
        nth += 1;
        let report = deployment.drive(attached.reconcile(nth % 2 == 0, &mut |_| ())).expect("it can be read");
        assert_eq!(report.findings().collect::<Vec<_>>(), Vec::<&Finding>::new());
    }
    stop.store(true, Ordering::Relaxed);
    deployment.drive(async {
        for asker in askers {
            asker.await.expect("no panic");
        }
    });
    attached
}
