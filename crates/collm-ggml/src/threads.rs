//! The threads that compute: one pool for the life of an engine.
//!
//! Inside a graph ggml's threads wait for one another by spinning, so more runnable threads than cores cost a factor of
//! a hundred. Two engines on one machine need disjoint `cores`. Between graphs a thread spins for a moment ([`POLL`]) and
//! then sleeps, so that an idle engine costs nothing.

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use crate::device::Library;

/// Rounds of 131,072 pauses that a thread waits for the next graph before it sleeps: a few milliseconds, longer than the
/// gap between two tokens of one answer.
const POLL: u32 = 1;

/// Threads that ggml can bind to cores.
const THREADS_MAX: usize = 512;

/// How many threads compute, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threads {
    /// Threads, the caller's included; 1 to 512.
    pub count: usize,
    /// Processor cores they are bound to, one each; empty leaves it to the operating system.
    pub cores: Vec<usize>,
}

impl Threads {
    /// Threads that run wherever the operating system puts them.
    pub fn unbound(count: usize) -> Self {
        Self { count, cores: Vec::new() }
    }

    fn parameters(&self) -> Option<sys::ggml_threadpool_params> {
        if !(1..=THREADS_MAX).contains(&self.count) {
            return None;
        }
        // SAFETY: fills in a plain struct.
        let mut parameters = unsafe { sys::ggml_threadpool_params_default(i32::try_from(self.count).ok()?) };
        parameters.poll = POLL;
        parameters.strict_cpu = !self.cores.is_empty();
        for core in &self.cores {
            *parameters.cpumask.get_mut(*core)? = true;
        }
        Some(parameters)
    }
}

/// ggml's pool. The calling thread is one of its members while a graph runs.
#[derive(Debug)]
pub(crate) struct Pool {
    raw: NonNull<sys::ggml_threadpool>,
    free: unsafe extern "C" fn(*mut sys::ggml_threadpool),
}

impl Pool {
    /// Starts the threads and makes the processor's `backend` compute with them. `None` if there are too many threads or a
    /// core is beyond what ggml can name.
    pub(crate) fn start(library: Library, backend: sys::ggml_backend_t, threads: &Threads) -> Option<Self> {
        type New = unsafe extern "C" fn(*mut sys::ggml_threadpool_params) -> *mut sys::ggml_threadpool;
        type Free = unsafe extern "C" fn(*mut sys::ggml_threadpool);
        type Serve = unsafe extern "C" fn(sys::ggml_backend_t, *mut sys::ggml_threadpool);
        type Count = unsafe extern "C" fn(sys::ggml_backend_t, i32);
        let mut parameters = threads.parameters()?;
        // SAFETY: the types are those of the functions of these names in ggml-cpu.h; plain data in, a pool or null out. The
        // engine drops the backend before the pool.
        unsafe {
            let new: New = library.function(c"ggml_threadpool_new")?;
            let free: Free = library.function(c"ggml_threadpool_free")?;
            let serve: Serve = library.function(c"ggml_backend_cpu_set_threadpool")?;
            let set_count: Count = library.function(c"ggml_backend_set_n_threads")?;
            let raw = NonNull::new(new(&raw mut parameters))?;
            set_count(backend, parameters.n_threads);
            serve(backend, raw.as_ptr());
            Some(Self { raw, free })
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: made by `start`, freed once, and no graph is running, since graphs run on the owning thread.
        unsafe { (self.free)(self.raw.as_ptr()) }
    }
}
