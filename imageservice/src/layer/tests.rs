//! The stages of a layer, one failing at a time.
