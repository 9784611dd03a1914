//! How many meshes may run at once. Envoys watch files with inotify, of which a user of a machine has 128 instances where nobody
//! raised `fs.inotify.max_user_instances`.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::Form;

/// In instances. Some are left for what else the user runs, and for meshes with a pod or a plugin more than the shop.
const ROOM: u32 = 120;

static FREE: Mutex<u32> = Mutex::new(ROOM);
static LEFT: Condvar = Condvar::new();

/// What a mesh takes of the room for as long as it runs.
#[derive(Debug)]
pub(crate) struct Place {
    instances: u32,
}

impl Place {
    /// Waits until there is room for a mesh: with one pod a Deployment, or with as many as its manifests say. An Envoy holds an instance for each of its plugins,
    /// so what the shop holds depends on the form. A test that has a mesh may take another place; if every test did, they could wait for each other.
    pub(crate) fn take(form: Form, replicas: Option<u32>) -> Self {
        let instances = match (form, replicas) {
            (Form::ThreeModules, Some(1)) => 49,
            (Form::ThreeModules, _) => 75,
            (Form::Bundle, Some(1)) => 41,
            (Form::Bundle, _) => 62,
        };
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = LEFT
            .wait_while(free, |free| *free < instances)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= instances;
        Self { instances }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += self.instances;
        LEFT.notify_all();
    }
}
