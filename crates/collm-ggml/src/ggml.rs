//! Owned and copyable handles on ggml's C objects: what is made here is freed here, once.
//!
//! The handles know nothing of models. Whoever builds tensors must keep three promises that C does not check:
//! tensors are used only while their [`Context`] lives, data only while its [`Buffer`] lives, and both on one thread.

use std::ffi::c_void;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

/// A tensor's description, owned by a [`Context`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tensor(NonNull<sys::ggml_tensor>);

impl Tensor {
    /// Wraps what a ggml constructor returned.
    pub(crate) fn new(raw: *mut sys::ggml_tensor) -> Self {
        Self(NonNull::new(raw).expect("ggml aborts before it returns a null tensor"))
    }

    pub(crate) fn raw(self) -> *mut sys::ggml_tensor {
        self.0.as_ptr()
    }

    /// Elements in each dimension, the fastest first.
    pub(crate) fn dims(self) -> [i64; 4] {
        // SAFETY: the context lives (module promise).
        unsafe { self.0.as_ref().ne }
    }

    /// Bytes from one element to the next in each dimension.
    pub(crate) fn strides(self) -> [usize; 4] {
        // SAFETY: the context lives (module promise).
        unsafe { self.0.as_ref().nb }
    }

    pub(crate) fn bytes(self) -> usize {
        // SAFETY: the context lives (module promise).
        unsafe { sys::ggml_nbytes(self.raw()) }
    }

    /// Keeps the tensor's memory from being used for anything else in a graph.
    pub(crate) fn mark_input(self) -> Self {
        // SAFETY: the context lives (module promise).
        unsafe { sys::ggml_set_input(self.raw()) }
        self
    }

    /// Keeps the tensor's memory readable after a graph has run.
    pub(crate) fn mark_output(self) -> Self {
        // SAFETY: the context lives (module promise).
        unsafe { sys::ggml_set_output(self.raw()) }
        self
    }

    /// Copies `data` into the tensor, from its first byte on.
    pub(crate) fn write<T: Plain>(self, data: &[T]) {
        let bytes = std::mem::size_of_val(data);
        assert!(bytes <= self.bytes(), "a write never exceeds its tensor");
        // SAFETY: in bounds by the assertion; the tensor has a buffer, since it belongs to an allocated graph or store.
        unsafe { sys::ggml_backend_tensor_set(self.raw(), data.as_ptr().cast(), 0, bytes) }
    }

    /// Copies the first `values.len()` values of the tensor out.
    pub(crate) fn read<T: Plain>(self, values: &mut [T]) {
        let bytes = std::mem::size_of_val(values);
        assert!(bytes <= self.bytes(), "a read never exceeds its tensor");
        // SAFETY: as in `write`.
        unsafe { sys::ggml_backend_tensor_get(self.raw(), values.as_mut_ptr().cast(), 0, bytes) }
    }

    /// Moves a view over rows of `base`: `rows` of them from row `first` on. The strides stay.
    pub(crate) fn slide(self, base: Self, first: usize, rows: usize) {
        let row_bytes = base.strides()[1];
        // SAFETY: both live (module promise); the view stays inside `base`, which the caller has sized for every slot.
        unsafe {
            let view = self.raw();
            let data = (*base.raw()).data.cast::<u8>();
            assert!(first + rows <= (*base.raw()).ne[1] as usize, "a view stays inside its base");
            (*view).ne[1] = rows as i64;
            (*view).view_offs = first * row_bytes;
            (*view).data = data.add(first * row_bytes).cast::<c_void>();
        }
    }

    /// Makes the first dimension `length` long, rows packed. The tensor was made with at least that length.
    pub(crate) fn shorten_rows(self, length: usize) {
        // SAFETY: the context lives (module promise); a shorter packed tensor fits the memory of a longer one.
        unsafe {
            let tensor = self.raw();
            let element = (*tensor).nb[0];
            (*tensor).ne[0] = length as i64;
            (*tensor).nb[1] = length * element;
            (*tensor).nb[2] = (*tensor).nb[1] * (*tensor).ne[1] as usize;
            (*tensor).nb[3] = (*tensor).nb[2] * (*tensor).ne[2] as usize;
        }
    }
}

/// Values that are their bytes.
pub(crate) trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for i32 {}
impl Plain for i64 {}
impl Plain for u8 {}
impl Plain for half::f16 {}

/// Room for tensor descriptions, without their data.
#[derive(Debug)]
pub(crate) struct Context(NonNull<sys::ggml_context>);

impl Context {
    /// Room for `tensors` tensors, and for a graph of `nodes` nodes.
    pub(crate) fn new(tensors: usize, nodes: usize) -> Self {
        // SAFETY: pure functions of sizes; ggml allocates the memory itself when given null.
        let context = unsafe {
            let graph = if nodes == 0 { 0 } else { sys::ggml_graph_overhead_custom(nodes, false) };
            sys::ggml_init(sys::ggml_init_params {
                mem_size: tensors * sys::ggml_tensor_overhead() + graph,
                mem_buffer: std::ptr::null_mut(),
                no_alloc: true,
            })
        };
        Self(NonNull::new(context).expect("ggml_init aborts when memory is short"))
    }

    pub(crate) fn raw(&self) -> *mut sys::ggml_context {
        self.0.as_ptr()
    }

    pub(crate) fn tensor_1d(&self, ty: sys::ggml_type, length: usize) -> Tensor {
        // SAFETY: the context lives and was made with room for its tensors; ggml aborts if not.
        Tensor::new(unsafe { sys::ggml_new_tensor_1d(self.raw(), ty, length as i64) })
    }

    pub(crate) fn tensor_2d(&self, ty: sys::ggml_type, row: usize, rows: usize) -> Tensor {
        // SAFETY: as above.
        Tensor::new(unsafe { sys::ggml_new_tensor_2d(self.raw(), ty, row as i64, rows as i64) })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { sys::ggml_free(self.0.as_ptr()) }
    }
}

/// Memory of a device.
#[derive(Debug)]
pub(crate) struct Buffer(NonNull<sys::ggml_backend_buffer>);

impl Buffer {
    /// Takes ownership of what a ggml allocator returned; `None` if it was out of memory.
    pub(crate) fn own(raw: sys::ggml_backend_buffer_t) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    pub(crate) fn raw(&self) -> sys::ggml_backend_buffer_t {
        self.0.as_ptr()
    }

    /// Asks for large pages behind the first `bytes` bytes of memory that is the processor's: every token reads all weights,
    /// and then misses the address cache less often. Advice; nothing depends on it.
    #[cfg(target_os = "linux")]
    pub(crate) fn prefer_large_pages(&self, bytes: usize) {
        let page = rustix::param::page_size();
        // SAFETY: whole pages inside memory that the buffer owns, and advice that does not change their content.
        unsafe {
            let base = sys::ggml_backend_buffer_get_base(self.raw());
            let start = base.addr().next_multiple_of(page);
            let end = (base.addr() + bytes) / page * page;
            if start < end {
                let advice = rustix::mm::Advice::LinuxHugepage;
                let _ = rustix::mm::madvise(base.with_addr(start), end - start, advice);
            }
        }
    }

    /// Other systems decide alone.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn prefer_large_pages(&self, _: usize) {}

    /// Says that weights are in it, which some devices lay out or schedule differently.
    pub(crate) fn holds_weights(self) -> Self {
        // SAFETY: the buffer lives.
        unsafe { sys::ggml_backend_buffer_set_usage(self.raw(), sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS) }
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { sys::ggml_backend_buffer_free(self.0.as_ptr()) }
    }
}

/// Places a graph's intermediate results in one buffer that is reused between graphs.
#[derive(Debug)]
pub(crate) struct Allocator(NonNull<sys::ggml_gallocr>);

impl Allocator {
    pub(crate) fn new(buffer_type: sys::ggml_backend_buffer_type_t) -> Self {
        // SAFETY: buffer types live as long as the program.
        let raw = unsafe { sys::ggml_gallocr_new(buffer_type) };
        Self(NonNull::new(raw).expect("ggml_gallocr_new aborts when memory is short"))
    }

    /// Whether there was enough memory. Graphs that were placed earlier must not be run any more.
    pub(crate) fn place(&mut self, graph: *mut sys::ggml_cgraph) -> bool {
        // SAFETY: the graph was built by the caller and its context lives.
        unsafe { sys::ggml_gallocr_alloc_graph(self.0.as_ptr(), graph) }
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { sys::ggml_gallocr_free(self.0.as_ptr()) }
    }
}
