//! How many meshes may run at once. Envoys watch files with inotify, of which a user of a machine has 128 instances where nobody
//! raised `fs.inotify.max_user_instances`.

use std::sync::{Condvar, Mutex, PoisonError};

/// In units of a mesh of the shop with one pod a Deployment, which holds 39 instances.
const ROOM: u32 = 3;

static FREE: Mutex<u32> = Mutex::new(ROOM);
static LEFT: Condvar = Condvar::new();

/// What a mesh takes of the room for as long as it runs.
#[derive(Debug)]
pub(crate) struct Place {
    units: u32,
}

impl Place {
    /// Waits until there is room for a mesh: with one pod a Deployment, or with as many as its manifests say, which is 59 instances
    /// for the shop. A test that has a mesh may take another place; if every test did, they could wait for each other.
    pub(crate) fn take(replicas: Option<u32>) -> Self {
        let units = if replicas == Some(1) { 1 } else { 2 };
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = LEFT
            .wait_while(free, |free| *free < units)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= units;
        Self { units }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += self.units;
        LEFT.notify_all();
    }
}
