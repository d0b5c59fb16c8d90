//! A breadth-first search over every state a model can reach.
//!
//! States are remembered by a hash of 64 bits. Of the states that are found the
//! shortest way to the first wrong one is told.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// What can happen, and what must always hold.
pub(crate) trait Model {
    type State: Copy + Eq + Hash + Debug;

    fn start(&self) -> Self::State;
    /// Adds everything that can happen next.
    fn steps(&self, steps: &mut Steps<Self::State>);
    /// The invariant that `state` breaks, if any.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;
    /// Whether nothing is left to be done.
    fn ended(&self, state: &Self::State) -> bool;
    /// Drops what can make no difference any more, so that fewer states differ.
    fn forget(&self) -> fn(&mut Self::State) {
        |_| {}
    }
}

/// Who takes a step. A sweeper carries only what it finds in the buckets as they
/// are now: what others carry may be lost with them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// A sweeper would, and does so before anything below.
    Carrying,
    /// A sweeper would, when there is nothing to carry.
    Reading,
    /// A sweeper would, when there is nothing to carry or to read.
    Beginning,
    /// A sweeper would as the last thing: a deadline has come.
    Deadline,
    /// Users, movers, archivers, failing machines: nothing may depend on them.
    Others,
}

impl By {
    /// A step that a sweeper would take if it `finds` the cause itself.
    pub(crate) fn sweeper_if(self, finds: bool) -> By {
        if finds { self } else { By::Others }
    }
}

/// The steps out of one state.
pub(crate) struct Steps<S> {
    from: S,
    forget: fn(&mut S),
    next: Vec<(Step, By, S)>,
}

/// The name of a script, and whom or what it is about.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    name: &'static str,
    about: u8,
}

impl<S: Copy + Eq> Steps<S> {
    pub(crate) fn from(&self) -> S {
        self.from
    }

    /// Adds a step, unless it changes nothing.
    pub(crate) fn add(&mut self, by: By, name: &'static str, about: usize, change: impl FnOnce(&mut S)) {
        let mut state = self.from;
        change(&mut state);
        (self.forget)(&mut state);
        if state != self.from {
            self.next.push((Step { name, about: about as u8 }, by, state));
        }
    }
}

/// What a search found.
pub(crate) struct Found {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    pub(crate) depth: usize,
    /// The invariant, and how it was broken.
    pub(crate) broken: Option<(&'static str, String)>,
}

pub(crate) const STUCK: &str = "a sweeper alone reaches the end";

struct Node<S> {
    state: S,
    parent: u32,
    step: Step,
    depth: u16,
    /// Where a sweeper alone would go next.
    swept: u32,
}

const NOWHERE: u32 = u32::MAX;

/// Searches all states, at most `most`.
pub(crate) fn search<M: Model>(model: &M, most: usize) -> Found {
    let mut seen: HashMap<u64, u32, BuildHasherDefault<Same>> = HashMap::default();
    let start = model.start();
    let first =
        Node { state: start, parent: NOWHERE, step: Step { name: "start", about: 0 }, depth: 0, swept: NOWHERE };
    let mut nodes = vec![first];
    seen.insert(hash(&start), 0);
    let mut steps = Steps { from: start, forget: model.forget(), next: Vec::new() };
    let (mut at, mut steps_count) = (0, 0);
    let found = |nodes: &[Node<M::State>], steps, broken| Found {
        states: nodes.len(),
        steps,
        depth: nodes.last().map_or(0, |last| last.depth.into()),
        broken,
    };
    while at < nodes.len() {
        let state = nodes[at].state;
        if let Some(invariant) = model.broken(&state) {
            return found(&nodes, steps_count, Some((invariant, trace(&nodes, at))));
        }
        steps.from = state;
        steps.next.clear();
        model.steps(&mut steps);
        let mut sweeper = By::Others;
        for &(step, by, next) in &steps.next {
            steps_count += 1;
            let new = nodes.len() as u32;
            let index = *seen.entry(hash(&next)).or_insert(new);
            if index == new {
                assert!(nodes.len() < most, "more than {most} states: make the size smaller or the bound larger");
                let depth = nodes[at].depth + 1;
                nodes.push(Node { state: next, parent: at as u32, step, depth, swept: NOWHERE });
            }
            if by < sweeper {
                sweeper = by;
                nodes[at].swept = index;
            }
        }
        if nodes[at].swept == NOWHERE && !model.ended(&state) {
            return found(&nodes, steps_count, Some((STUCK, trace(&nodes, at))));
        }
        at += 1;
    }
    let stuck = stuck(model, &nodes).map(|at| (STUCK, trace(&nodes, at)));
    found(&nodes, steps_count, stuck)
}

/// A state from which a sweeper alone walks in a circle.
fn stuck<M: Model>(model: &M, nodes: &[Node<M::State>]) -> Option<usize> {
    const UNKNOWN: u8 = 0;
    const WALKED: u8 = 1;
    const ENDS: u8 = 2;
    let mut known = vec![UNKNOWN; nodes.len()];
    let mut way = Vec::new();
    for start in 0..nodes.len() {
        let mut at = start;
        while known[at] == UNKNOWN && !model.ended(&nodes[at].state) {
            known[at] = WALKED;
            way.push(at);
            at = nodes[at].swept as usize;
        }
        if known[at] == WALKED {
            return Some(start);
        }
        known[at] = ENDS;
        for at in way.drain(..) {
            known[at] = ENDS;
        }
    }
    None
}

fn trace<S: Debug>(nodes: &[Node<S>], at: usize) -> String {
    let mut names = Vec::new();
    let mut node = &nodes[at];
    while node.parent != NOWHERE {
        names.push(format!("{} {}", node.step.name, node.step.about));
        node = &nodes[node.parent as usize];
    }
    names.reverse();
    let mut text = names.join("\n  ");
    let _ = write!(text, "\n{:?}", nodes[at].state);
    text
}

fn hash(state: &impl Hash) -> u64 {
    let mut hasher = Mixing(0x9e37_79b9_7f4a_7c15);
    state.hash(&mut hasher);
    hasher.finish()
}

/// Quick where nothing is optimised: states are made of bytes.
struct Mixing(u64);

impl Mixing {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64 ^ (product >> 64) as u64).wrapping_add(0x2d35_8dcc_aa6c_78a5);
    }
}

impl Hasher for Mixing {
    fn write(&mut self, bytes: &[u8]) {
        let mut word = 0;
        let mut at = 0;
        while at < bytes.len() {
            word = word << 8 | u64::from(bytes[at]);
            at += 1;
            if at & 7 == 0 {
                self.mix(word);
                word = 0;
            }
        }
        self.mix(word);
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(byte.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.mix(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.mix(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Hashes are not hashed again.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are looked up")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
