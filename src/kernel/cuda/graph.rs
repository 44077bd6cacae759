//! Launches that were written down once and are repeated at the cost of one.

use cudarc::driver::{CudaGraph, sys};

use super::{CudaError, Gpu};

/// Launches with their arguments: the addresses they were written down with.
pub struct Graph(CudaGraph);

// SAFETY: a graph may be used by any thread, one at a time, and there is no shared access to one: it is
// launched through `&mut self`.
unsafe impl Send for Graph {}

impl Gpu {
    /// Writes down what `work` launches, without running it. It launches only: copies and allocations
    /// fail.
    ///
    /// # Errors
    /// The work's own, or the driver's.
    pub fn record<E: From<CudaError>>(
        &self,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<Graph, E> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        let began = self.stream.begin_capture(mode);
        began.map_err(CudaError::driver("begin a graph"))?;
        let outcome = work();
        // Ended in any case, or the stream would not run anything any more.
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        outcome?;
        let graph = graph.map_err(CudaError::driver("end a graph"))?;
        let graph = graph.ok_or_else(|| CudaError::Driver {
            doing: "end a graph",
            name: "it is empty".to_owned(),
        })?;
        graph
            .upload()
            .map_err(CudaError::driver("upload a graph"))?;
        Ok(Graph(graph))
    }
}

impl Graph {
    /// Launches all of it, in order, after all that was launched before.
    pub fn launch(&mut self) -> Result<(), CudaError> {
        self.0.launch().map_err(CudaError::driver("launch a graph"))
    }
}
