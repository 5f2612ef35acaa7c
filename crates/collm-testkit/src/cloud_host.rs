//! A cloud and its engine, as a driver would keep them, through its lives.

use collm_core::{cloud::Cloud, time::Time};
use collm_engine::scripted::{Script, ScriptedEngine, Sizes};
use collm_exec::CloudExecutor;

use crate::plan::CloudPlan;

/// Rows that a cloud's engine takes in one call: fewer than a batch may have, so that batches are cut.
const CALL_ROWS_MAX: usize = 16;

/// One life of a cloud, from start to kill.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) cloud: Cloud,
    pub(crate) executor: CloudExecutor<ScriptedEngine>,
    pub(crate) is_busy: bool,
    /// The earliest wake-up that is on its way.
    pub(crate) wakes_at: Option<Time>,
}

#[derive(Debug)]
pub(crate) struct CloudHost {
    pub(crate) plan: CloudPlan,
    script: Script,
    /// `None` while it is dead.
    pub(crate) life: Option<Life>,
    /// Lives so far.
    pub(crate) generation: u32,
    /// Frames from and to it vanish until then.
    pub(crate) stalled_until: Time,
    /// Frames from and to it arrive no earlier.
    pub(crate) held_until: Time,
    /// Strangers may have made it compute nonsense of their own.
    pub(crate) met_rogues: bool,
}

impl CloudHost {
    pub(crate) fn new(plan: CloudPlan, script: &Script) -> Self {
        let mut host = Self {
            plan,
            script: script.clone(),
            life: None,
            generation: 0,
            stalled_until: Time::default(),
            held_until: Time::default(),
            met_rogues: false,
        };
        host.start();
        host
    }

    /// Starts anew, unless it runs.
    pub(crate) fn start(&mut self) {
        if self.life.is_none() {
            self.generation += 1;
            self.life = Some(Life {
                cloud: Cloud::new(self.plan.config.clone()),
                executor: CloudExecutor::new(self.engine()),
                is_busy: false,
                wakes_at: None,
            });
        }
    }

    /// Loses everything.
    pub(crate) fn kill(&mut self) {
        self.check_engine();
        self.life = None;
    }

    fn engine(&self) -> ScriptedEngine {
        let config = &self.plan.config;
        let sizes =
            Sizes { slots: config.slots as usize, context: config.context as usize, batch_rows_max: CALL_ROWS_MAX };
        let engine = if config.holds_whole {
            ScriptedEngine::whole(self.script.clone(), sizes)
        } else {
            ScriptedEngine::cloud(self.script.clone(), sizes)
        };
        self.plan.failing_calls.iter().fold(engine, |engine, call| engine.failing_at(*call))
    }

    /// Memory never exceeds what was configured.
    pub(crate) fn check_budgets(&self) {
        let Some(life) = &self.life else { return };
        let (held, config) = (life.cloud.occupancy(), &self.plan.config);
        assert!(held.contexts <= config.contexts_max as usize, "{held:?} exceeds {} contexts", config.contexts_max);
        assert!(held.slots <= config.slots as usize, "{held:?} exceeds {} slots", config.slots);
        let states_bytes_max = config.states_bytes_max;
        assert!(held.states_bytes <= states_bytes_max, "{held:?} exceeds {states_bytes_max} bytes of states");
    }

    /// Whoever dealt with the slots made no mistake.
    pub(crate) fn check_engine(&self) {
        let Some(life) = &self.life else { return };
        let discontinuities = life.executor.engine().counts().discontinuities;
        assert!(
            discontinuities == 0 || self.met_rogues,
            "{discontinuities} rows did not continue their slot in a cloud"
        );
    }

    /// Nothing is left of any session.
    pub(crate) fn check_empty(&self) {
        let Some(life) = &self.life else { return };
        let held = life.cloud.occupancy();
        let nothing =
            held.peers == 0 && held.contexts == 0 && held.slots == 0 && held.states_bytes == 0 && held.waiting == 0;
        assert!(nothing, "all sessions are over and the cloud still holds {held:?}");
        assert!(!life.is_busy, "the cloud still computes");
        assert_eq!(life.cloud.poll_timeout(), None, "a cloud without contexts waits for something");
    }
}
