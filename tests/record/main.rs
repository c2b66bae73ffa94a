//! The record: episode documents, observed sessions, the sink.

mod document;
mod observed;
mod sink;
