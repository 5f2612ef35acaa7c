//! What the machine computes with: ggml's devices, and the layouts of weights that each has fast kernels for.
//!
//! Only the processor has been run here. The other devices go through the same calls (`supports_op` before anything is
//! placed, buffers of the device's own type), but nobody has seen them work yet.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::{Arc, Once};

use collm_engine::{EngineError, Interrupt};
use llama_cpp_sys_2 as sys;

use crate::LoadError;
use crate::ggml::{Buffer, Context, Tensor};
use crate::threads::{Pool, Threads};

/// A device as `collm doctor` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What to pass as [`crate::LoadOptions::device`], for example `CPU` or `CUDA0`.
    pub name: String,
    /// For people.
    pub description: String,
    /// What kind of device.
    pub kind: DeviceKind,
    /// Bytes of its memory, free and in all. Some devices do not tell and say 0.
    pub memory_free_bytes: usize,
    /// See `memory_free_bytes`.
    pub memory_total_bytes: usize,
    /// Names of layouts that weights can be repacked into, such as `AMX` or `CPU_REPACK`.
    pub weight_layouts: Vec<String>,
    /// What its kernels use, such as `AVX2` or `AVX512_VNNI`. Where kernels are chosen when the program starts, those that were.
    pub kernel_features: Vec<String>,
}

/// Kinds of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// The processor.
    Processor,
    /// A graphics processor with memory of its own, or one that shares the machine's.
    Graphics,
    /// Anything else that accelerates some operations of the processor.
    Accelerator,
}

/// Every device that ggml was built for and finds on this machine.
pub fn devices() -> Vec<DeviceInfo> {
    initialise();
    handles().map(Handle::describe).collect()
}

/// Loads the kernel libraries and routes their log, once a process.
pub(crate) fn initialise() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        crate::log::route_to_tracing();
        // SAFETY: called once, before anything else of the libraries.
        unsafe {
            sys::llama_backend_init();
            if cfg!(feature = "dynamic-backends") {
                sys::ggml_backend_load_all();
            }
        }
    });
}

/// Alignment that ggml demands of tensors in memory that it did not allocate.
pub(crate) const MAPPED_ALIGNMENT: usize = 32;

/// An opened device with the threads that serve it.
#[derive(Debug)]
pub(crate) struct Device {
    backend: Backend,
    // After the backend, which computes with them: fields drop in this order.
    _pool: Option<Pool>,
    _interrupt: Option<Arc<Interrupt>>,
    handle: Handle,
    /// Layouts to try for weights, the fastest first, the device's own last.
    layouts: Vec<Layout>,
}

/// A type of buffers, and so of the layout of weights in them. Lives as long as the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout(NonNull<sys::ggml_backend_buffer_type>);

impl Device {
    /// Opens the device called `name`, or the processor.
    pub(crate) fn open(name: Option<&str>, threads: &Threads) -> Result<Self, LoadError> {
        initialise();
        let handle = match name {
            Some(name) => handles().find(|handle| handle.name() == name),
            None => handles().find(|handle| handle.kind() == DeviceKind::Processor),
        };
        let handle = handle.ok_or_else(|| LoadError::NoDevice {
            name: name.unwrap_or("CPU").to_owned(),
            present: handles().map(Handle::name).collect(),
        })?;
        let backend = Backend::open(handle)?;
        let pool = match handle.kind() {
            DeviceKind::Processor => Some(
                Pool::start(handle.library(), backend.0.as_ptr(), threads)
                    .ok_or_else(|| LoadError::Threads(threads.clone()))?,
            ),
            DeviceKind::Graphics | DeviceKind::Accelerator => None,
        };
        let layouts = handle.extra_layouts().into_iter().chain([handle.own_layout()]).collect();
        Ok(Self { backend, _pool: pool, _interrupt: None, handle, layouts })
    }

    /// Where everything but repacked weights is placed.
    pub(crate) fn own_layout(&self) -> Layout {
        self.handle.own_layout()
    }

    /// Whether all layouts of the device are in the processor's own memory.
    pub(crate) fn is_processor(&self) -> bool {
        self.handle.kind() == DeviceKind::Processor
    }

    /// Whether the processor can read the device's memory, so that mapped files can be used in place.
    pub(crate) fn is_host(&self) -> bool {
        // SAFETY: the layout lives as long as the program.
        unsafe { sys::ggml_backend_buft_is_host(self.own_layout().raw()) }
    }

    /// Makes a checked file's bytes usable in place. `None` if the device cannot read them there.
    ///
    /// # Safety
    /// `bytes` outlives the buffer, and nobody writes to it meanwhile.
    pub(crate) unsafe fn map(&self, bytes: &[u8]) -> Option<Buffer> {
        if !self.is_host() || !bytes.as_ptr().addr().is_multiple_of(MAPPED_ALIGNMENT) {
            return None;
        }
        // SAFETY: aligned as ggml asserts; weights are only read, so the cast to mutable is never used.
        let raw = unsafe { sys::ggml_backend_cpu_buffer_from_ptr(bytes.as_ptr().cast_mut().cast(), bytes.len()) };
        Buffer::own(raw).map(Buffer::holds_weights)
    }

    /// The fastest layout in which the device can multiply with a matrix of this type and size.
    pub(crate) fn matrix_layout(&self, ty: sys::ggml_type, row: usize, rows: usize) -> Option<Layout> {
        self.layouts.iter().copied().find(|layout| self.multiplies(*layout, ty, row, rows))
    }

    /// Asks before anything is placed: a layout crashes on a weight that it has no kernel for.
    fn multiplies(&self, layout: Layout, ty: sys::ggml_type, row: usize, rows: usize) -> bool {
        /// Rows of the imagined other factor. Some kernels exist for many rows only.
        const OTHER_ROWS: usize = 512;
        let context = Context::new(4, 0);
        let weight = context.tensor_2d(ty, row, rows);
        let other = context.tensor_2d(sys::GGML_TYPE_F32, row, OTHER_ROWS);
        let Some(empty) = layout.allocate(0) else { return false };
        // SAFETY: descriptions without data; the empty buffer only tells the device the layout, and is taken out again
        // before it is freed.
        unsafe {
            (*weight.raw()).buffer = empty.raw();
            let product = Tensor::new(sys::ggml_mul_mat(context.raw(), weight.raw(), other.raw()));
            let supported = sys::ggml_backend_dev_supports_op(self.handle.0.as_ptr(), product.raw());
            (*weight.raw()).buffer = std::ptr::null_mut();
            supported
        }
    }

    /// Refuses a graph with an operation that the device cannot run, by name. It would abort on it.
    pub(crate) fn check(&self, graph: *mut sys::ggml_cgraph) -> Result<(), LoadError> {
        // SAFETY: the graph's context lives; indexes are below the count; operation names are static strings.
        let unsupported = unsafe {
            (0..sys::ggml_graph_n_nodes(graph)).map(|index| sys::ggml_graph_node(graph, index)).find_map(|node| {
                let supported = sys::ggml_backend_dev_supports_op(self.handle.0.as_ptr(), node);
                (!supported).then(|| text(sys::ggml_op_desc(node)))
            })
        };
        unsupported.map_or(Ok(()), |operation| Err(LoadError::Operation(operation)))
    }

    /// Looks at `interrupt` after every step of a graph, if the device can.
    pub(crate) fn heed(&mut self, interrupt: Arc<Interrupt>) {
        type Check = unsafe extern "C" fn(*mut c_void) -> bool;
        type Heed = unsafe extern "C" fn(sys::ggml_backend_t, Option<Check>, *mut c_void);
        // SAFETY: the type is `ggml_backend_set_abort_callback_t` of ggml-backend.h.
        let heed: Option<Heed> = unsafe { self.handle.library().function(c"ggml_backend_set_abort_callback") };
        let Some(heed) = heed else { return };
        // SAFETY: the backend lives; what the pointer refers to is kept beside it until it is freed or heeds another.
        unsafe { heed(self.backend.0.as_ptr(), Some(is_stopped), Arc::as_ptr(&interrupt).cast_mut().cast()) };
        self._interrupt = Some(interrupt);
    }

    /// Runs a placed graph to its end, unless it is interrupted.
    pub(crate) fn compute(&mut self, graph: *mut sys::ggml_cgraph) -> Result<(), EngineError> {
        // SAFETY: the graph was placed in this device's memory by its owner, which is alive.
        let status = unsafe { sys::ggml_backend_graph_compute(self.backend.0.as_ptr(), graph) };
        match status {
            sys::GGML_STATUS_SUCCESS => Ok(()),
            sys::GGML_STATUS_ABORTED => Err(EngineError::Interrupted),
            sys::GGML_STATUS_ALLOC_FAILED => Err(EngineError::Device("out of memory".into())),
            status => Err(EngineError::Device(format!("ggml status {status}"))),
        }
    }
}

/// What ggml asks between two steps of a graph.
///
/// # Safety
/// `interrupt` is the pointer that [`Device::heed`] gave.
unsafe extern "C" fn is_stopped(interrupt: *mut c_void) -> bool {
    // SAFETY: the device keeps it as long as its backend may ask, and only atomics in it change.
    unsafe { &*interrupt.cast::<Interrupt>() }.is_stopped()
}

impl Layout {
    pub(crate) fn raw(self) -> sys::ggml_backend_buffer_type_t {
        self.0.as_ptr()
    }

    pub(crate) fn name(self) -> String {
        // SAFETY: names are static strings of ggml.
        unsafe { text(sys::ggml_backend_buft_name(self.raw())) }
    }

    /// `None` if the device has not that much memory.
    pub(crate) fn allocate(self, bytes: usize) -> Option<Buffer> {
        // SAFETY: the layout lives as long as the program.
        Buffer::own(unsafe { sys::ggml_backend_buft_alloc_buffer(self.raw(), bytes) })
    }

    /// Where tensors may begin, in bytes.
    pub(crate) fn alignment(self) -> usize {
        // SAFETY: the layout lives as long as the program.
        unsafe { sys::ggml_backend_buft_get_alignment(self.raw()) }
    }

    /// Bytes of one buffer, at most.
    pub(crate) fn bytes_max(self) -> usize {
        // SAFETY: the layout lives as long as the program.
        unsafe { sys::ggml_backend_buft_get_max_size(self.raw()) }
    }

    /// Bytes that `tensor` takes in this layout.
    pub(crate) fn bytes_of(self, tensor: Tensor) -> usize {
        // SAFETY: layout and tensor live.
        unsafe { sys::ggml_backend_buft_get_alloc_size(self.raw(), tensor.raw()) }
    }
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// The library that implements a device, and so the only place to ask for functions that not all devices have. Asking is
/// needed because the library may be one of several that were found when the program started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Library(sys::ggml_backend_reg_t);

impl Library {
    /// The function called `name`, if the library has it.
    ///
    /// # Safety
    /// `F` is a function pointer of the type that ggml's headers give for this name.
    pub(crate) unsafe fn function<F: Copy>(self, name: &CStr) -> Option<F> {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>(), "a function pointer is as large as a pointer");
        // SAFETY: libraries live as long as the program; the cast is the caller's promise.
        unsafe {
            let address = sys::ggml_backend_reg_get_proc_address(self.0, name.as_ptr());
            if address.is_null() { None } else { Some(std::mem::transmute_copy(&address)) }
        }
    }
}

#[derive(Debug)]
struct Backend(NonNull<sys::ggml_backend>);

impl Backend {
    fn open(handle: Handle) -> Result<Self, LoadError> {
        // SAFETY: the device lives as long as the program; null parameters mean the default.
        let backend = unsafe { sys::ggml_backend_dev_init(handle.0.as_ptr(), std::ptr::null()) };
        NonNull::new(backend).map(Self).ok_or_else(|| LoadError::DeviceBroken(handle.name()))
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // SAFETY: made by `open`, freed once.
        unsafe { sys::ggml_backend_free(self.0.as_ptr()) }
    }
}

/// ggml's entry for a device. Lives as long as the program.
#[derive(Debug, Clone, Copy)]
struct Handle(NonNull<sys::ggml_backend_device>);

impl Handle {
    fn describe(self) -> DeviceInfo {
        let (mut free, mut total) = (0, 0);
        // SAFETY: the device lives, the numbers are written before the call returns.
        unsafe { sys::ggml_backend_dev_memory(self.0.as_ptr(), &raw mut free, &raw mut total) };
        // SAFETY: descriptions are strings that live as long as their device.
        let description = unsafe { text(sys::ggml_backend_dev_description(self.0.as_ptr())) };
        DeviceInfo {
            name: self.name(),
            description,
            kind: self.kind(),
            memory_free_bytes: free,
            memory_total_bytes: total,
            weight_layouts: self.extra_layouts().into_iter().map(Layout::name).collect(),
            kernel_features: self.kernel_features(),
        }
    }

    fn kernel_features(self) -> Vec<String> {
        type List = unsafe extern "C" fn(sys::ggml_backend_reg_t) -> *mut sys::ggml_backend_feature;
        let (library, mut features) = (self.library(), Vec::new());
        // SAFETY: the type is `ggml_backend_get_features_t` of ggml-backend.h; the list ends with a name that is null.
        unsafe {
            let Some(list): Option<List> = library.function(c"ggml_backend_get_features") else { return features };
            let mut entry = list(library.0);
            while let Some(feature) = entry.as_ref().filter(|feature| !feature.name.is_null()) {
                features.push(text(feature.name));
                entry = entry.add(1);
            }
        }
        features
    }

    fn name(self) -> String {
        // SAFETY: names are strings that live as long as their device.
        unsafe { text(sys::ggml_backend_dev_name(self.0.as_ptr())) }
    }

    fn kind(self) -> DeviceKind {
        // SAFETY: the device lives.
        match unsafe { sys::ggml_backend_dev_type(self.0.as_ptr()) } {
            sys::GGML_BACKEND_DEVICE_TYPE_CPU => DeviceKind::Processor,
            sys::GGML_BACKEND_DEVICE_TYPE_GPU | sys::GGML_BACKEND_DEVICE_TYPE_IGPU => DeviceKind::Graphics,
            _ => DeviceKind::Accelerator,
        }
    }

    fn library(self) -> Library {
        // SAFETY: the device lives.
        Library(unsafe { sys::ggml_backend_dev_backend_reg(self.0.as_ptr()) })
    }

    fn own_layout(self) -> Layout {
        // SAFETY: the device lives; every device has a buffer type.
        let raw = unsafe { sys::ggml_backend_dev_buffer_type(self.0.as_ptr()) };
        Layout(NonNull::new(raw).expect("every device has a buffer type"))
    }

    /// Layouts with faster kernels than the device's own, the fastest first.
    fn extra_layouts(self) -> Vec<Layout> {
        type List = unsafe extern "C" fn(sys::ggml_backend_dev_t) -> *mut sys::ggml_backend_buffer_type_t;
        let mut layouts = Vec::new();
        // SAFETY: the type is `ggml_backend_dev_get_extra_bufts_t` of ggml-backend.h; the list ends with a null.
        unsafe {
            let Some(list): Option<List> = self.library().function(c"ggml_backend_dev_get_extra_bufts") else {
                return layouts;
            };
            let mut entry = list(self.0.as_ptr());
            while let Some(layout) = entry.as_ref().copied().and_then(NonNull::new) {
                layouts.push(Layout(layout));
                entry = entry.add(1);
            }
        }
        layouts
    }
}

fn handles() -> impl Iterator<Item = Handle> {
    // SAFETY: the registry is filled once, by `initialise`, which every caller has run; indexes are below its count.
    let count = unsafe { sys::ggml_backend_dev_count() };
    (0..count).filter_map(|index| NonNull::new(unsafe { sys::ggml_backend_dev_get(index) }).map(Handle))
}

/// # Safety
/// Null, or a terminated string that lives during the call.
unsafe fn text(raw: *const std::ffi::c_char) -> String {
    if raw.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned()
}
