//! Routes what ggml and llama.cpp print into `tracing`, where it is quiet unless asked for.

use std::ffi::{CStr, c_char, c_void};

use llama_cpp_sys_2 as sys;

/// Sends every later message of the C libraries to `tracing`, under the target `ggml`.
pub(crate) fn route_to_tracing() {
    // SAFETY: the callback is a plain function that lives as long as the program and uses no user data.
    unsafe {
        sys::ggml_log_set(Some(forward), std::ptr::null_mut());
        sys::llama_log_set(Some(forward), std::ptr::null_mut());
    }
}

/// What llama.cpp calls information is of interest to its developers, hence one level lower here.
unsafe extern "C" fn forward(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: not null, and the libraries pass a terminated string that lives during the call.
    let message = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let message = message.trim_end();
    match level {
        sys::GGML_LOG_LEVEL_ERROR => tracing::error!(target: "ggml", "{message}"),
        sys::GGML_LOG_LEVEL_WARN => tracing::warn!(target: "ggml", "{message}"),
        sys::GGML_LOG_LEVEL_INFO => tracing::debug!(target: "ggml", "{message}"),
        _ => tracing::trace!(target: "ggml", "{message}"),
    }
}
