//! In-memory ports: a small world that can be asked what is left in it.
