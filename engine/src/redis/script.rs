//! A Lua script as the engine knows it: its text, the hash under which servers
//! know it, and how several calls of it become one run.
//!
//! **Invariant:** every key that a script touches is among its `KEYS`. While a
//! slot moves, a server checks those before the script begins; a key it meets
//! only in the middle ends the script there, with half of its writes done.
//!
//! **Invariant:** the first write of a script is one that takes memory. A server
//! whose memory is full refuses those and lets the others through: a share
//! taken by LPOP would be gone, and its winner not written.
//!
//! **Invariant:** a call may arrive twice. A script knows by its own ids what
//! it has already done and answers the same again.

use redis::Script as Hashed;
use std::sync::OnceLock;

/// One script, usually a `static`.
pub(crate) struct Script {
    name: &'static str,
    parts: &'static [&'static str],
    shape: Shape,
    alone: bool,
    fences: bool,
    loaded: OnceLock<Loaded>,
}

struct Loaded {
    source: String,
    sha: String,
}

/// How calls become `KEYS` and `ARGV`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Written for one call: its keys, its arguments, one answer. A run does it
    /// for each of its calls (`scripts/lua/each.lua`).
    Each,
    /// Written for as many calls as wait: see [`Script::lane`].
    Lane { shared_keys: usize, shared_args: usize },
}

/// The most calls that one run of a script takes: a run keeps its server from
/// everything else.
pub(super) const CALLS_MAX: usize = 64;
/// The same of a script that is written for many calls, which takes less time for
/// each.
const LANE_CALLS_MAX: usize = 128;
/// The most bytes of keys and arguments in a run of several calls, for the same
/// reason. A call that is longer runs alone.
pub(super) const RUN_BYTES_MAX: usize = 32 << 10;

/// Before the body of a script that is written for one call, and behind it. What
/// such scripts have in common is made once a run.
const HEAD: &str = concat!(
    "local run, KEYS, ARGV = {}, KEYS, ARGV\n",
    include_str!("../../../scripts/lua/failure.lua"),
    include_str!("../../../scripts/lua/ledger.lua"),
    include_str!("../../../scripts/lua/operations.lua"),
    "local function decide()"
);
const EACH: &str = include_str!("../../../scripts/lua/each.lua");

impl Shape {
    /// How many of the first keys and arguments all calls of a run have in common.
    pub(super) fn shared(self) -> (usize, usize) {
        match self {
            Shape::Each => (0, 0),
            Shape::Lane { shared_keys, shared_args } => (shared_keys, shared_args),
        }
    }
}

impl Script {
    /// A script that is written for one call. `parts` are joined with line ends:
    /// the prelude that scripts have in common, then the body.
    ///
    /// Calls of it that wait for the same connection, in the same bucket or all
    /// on one server, travel in one run, in which each fails on its own.
    pub(crate) const fn one(name: &'static str, parts: &'static [&'static str]) -> Script {
        Script { name, parts, shape: Shape::Each, alone: false, fences: false, loaded: OnceLock::new() }
    }

    /// A script that takes k calls, 1 to 128, and answers with an array of k
    /// answers in their order.
    ///
    /// Calls whose first `shared_keys` keys are the same and that wait for the
    /// same connection travel in one run:
    /// `KEYS` = the shared keys, then each call's other keys;
    /// `ARGV` = k, the shared arguments (of the newest call: the time, say),
    /// then each call's other arguments. All calls of such a script have as
    /// many keys and as many arguments as each other.
    pub(crate) const fn lane(
        name: &'static str,
        parts: &'static [&'static str],
        shared_keys: usize,
        shared_args: usize,
    ) -> Script {
        let shape = Shape::Lane { shared_keys, shared_args };
        Script { name, parts, shape, alone: false, fences: false, loaded: OnceLock::new() }
    }

    /// Says that one call of it may keep the server for so long that no other
    /// should be in the same run.
    #[must_use]
    pub(crate) const fn alone(mut self) -> Script {
        self.alone = true;
        self
    }

    /// Says that it writes whenever its answer has to be confirmed, so that
    /// no write of ours is needed for WAIT to wait for.
    #[must_use]
    pub(crate) const fn fencing(mut self) -> Script {
        self.fences = true;
        self
    }

    /// For people: what messages call it.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The whole text.
    pub(crate) fn source(&self) -> &str {
        &self.loaded().source
    }

    /// The hash of the text, as EVALSHA takes it.
    pub(crate) fn sha(&self) -> &str {
        &self.loaded().sha
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// The most calls that a run of it takes.
    pub(super) fn calls_max(&self) -> usize {
        match self.shape {
            _ if self.alone => 1,
            Shape::Each => CALLS_MAX,
            Shape::Lane { .. } => LANE_CALLS_MAX,
        }
    }

    pub(super) fn fences(&self) -> bool {
        self.fences
    }

    fn loaded(&self) -> &Loaded {
        self.loaded.get_or_init(|| {
            let body = self.parts.join("\n");
            let source = match self.shape {
                Shape::Each => [HEAD, &body, "end", EACH].join("\n"),
                Shape::Lane { .. } => body,
            };
            let sha = Hashed::new(&source).get_hash().to_owned();
            Loaded { source, sha }
        })
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Script({})", self.name)
    }
}
