//! A seed from its first start to its last check, and what to say when it fails.

use crate::random::Random;
use crate::world::{End, World};
use hongbao_engine::journal::Mutants;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) journal: Mutants,
    #[cfg(feature = "mutants")]
    pub(crate) engine: Option<hongbao_engine::mutants::Mutant>,
}

/// What was met how often.
pub(crate) type Met = BTreeMap<&'static str, u64>;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a seed. An error says what went wrong.
pub(crate) fn run(seed: u64, faults: Faults, verbose: bool) -> Result<Met, String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        hongbao_engine::entropy::lay_users_repeatably();
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                LAST_PANIC.with_borrow_mut(|last| *last = info.to_string());
            } else {
                loud(info);
            }
        }));
    });
    #[cfg(feature = "mutants")]
    hongbao_engine::mutants::plant(faults.engine);
    QUIET.set(!verbose);
    let result = catch_unwind(AssertUnwindSafe(|| live(seed, faults, verbose)));
    QUIET.set(false);
    result.map_err(|_| LAST_PANIC.take())
}

fn live(seed: u64, faults: Faults, verbose: bool) -> Met {
    let mut world = World::new(Random(seed).next(), faults, verbose);
    let lives = world.random.between(2, 4);
    for life in 0..lives {
        live_once(&mut world);
        let end = match world.random.below(8) {
            _ if life == 0 => End::Power,
            0..=3 => End::Power,
            4..=5 => End::Kill,
            _ => End::Close,
        };
        world.restart(end);
    }
    loop {
        world.quiesce_and_check();
        if !world.has_failed() {
            break;
        }
        world.restart(End::Power);
    }
    world.is_sound();
    world.check_alive();
    assert!(world.met["crashes"] > 0, "every seed has a crash");
    world.met
}

fn live_once(world: &mut World) {
    if world.random.once_in(6) {
        return;
    }
    world.quiesce_and_check();
    if world.has_failed() {
        return;
    }
    world.is_sound();
    let most = world.random.pick(&[60, 120, 240]);
    let steps = world.random.between(5, most);
    let trouble_at = if world.random.once_in(2) { world.random.below(steps) } else { steps };
    let mut left = steps;
    for step in 0..steps {
        if step == trouble_at {
            world.plan_trouble();
        }
        world.step();
        if world.has_failed() {
            left = left.min(4);
        }
        left -= 1;
        if left == 0 {
            break;
        }
    }
}
