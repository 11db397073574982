//! Layers of all kinds, unpacked by root into a real file system.
