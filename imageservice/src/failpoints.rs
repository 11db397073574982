//! The points at which tests of the whole kill the daemon while it pulls, unpacks and removes. Owns their names; what happens at
//! one is `podwright_sys::fail_point`'s part. Without the feature `failpoints` nothing of it is left.

pub(crate) use podwright_sys::fail_point;

/// The manifest is known, nothing is on disk.
pub(crate) const RESOLVED: &str = "pull resolved";
/// A part of a layer is on disk.
pub(crate) const BLOB_PARTLY: &str = "pull blob partly";
/// A whole layer is on disk, under the name of a part.
pub(crate) const BLOB_WHOLE: &str = "pull blob whole";
/// A whole layer is in its place.
pub(crate) const BLOB_PUBLISHED: &str = "pull blob published";
/// A manifest or a configuration is on disk, under the name of a part.
pub(crate) const TEXT_WHOLE: &str = "pull text whole";
/// All parts are in their places, and the image is not listed.
pub(crate) const UNLISTED: &str = "pull unlisted";
/// The image is listed on disk, and not in memory.
pub(crate) const LISTED: &str = "pull listed";
/// The image is listed, and nobody was told.
pub(crate) const PULLED: &str = "pull done";
/// The directory to unpack into was made.
pub(crate) const UNPACK_BEGUN: &str = "unpack begun";
/// One entry of many was unpacked.
pub(crate) const UNPACK_ENTRY: &str = "unpack entry";
/// All was unpacked, and is not marked as whole.
pub(crate) const UNPACK_UNMARKED: &str = "unpack unmarked";
/// It is marked as whole, and not in its place.
pub(crate) const UNPACK_MARKED: &str = "unpack marked";
/// It is in its place.
pub(crate) const UNPACK_PUBLISHED: &str = "unpack published";
/// It was synced, and is not marked as synced.
pub(crate) const UNPACK_SYNCED: &str = "unpack synced";
/// An index was written, under another name.
pub(crate) const INDEX_WRITTEN: &str = "index written";
/// An image is off the list on disk and on it in memory.
pub(crate) const REMOVE_UNLISTED: &str = "remove unlisted";
/// It is off both lists, and its parts are in their places.
pub(crate) const REMOVE_COLLECT: &str = "remove collect";
/// A part was moved into the trash.
pub(crate) const REMOVE_DISCARDED: &str = "remove discarded";
/// All parts are in the trash.
pub(crate) const REMOVE_TRASH: &str = "remove trash";
/// The trash is empty, and nobody was told.
pub(crate) const REMOVED: &str = "remove done";

/// All of them.
#[cfg(feature = "failpoints")]
pub const FAIL_POINTS: &[&str] = &[
    RESOLVED,
    BLOB_PARTLY,
    BLOB_WHOLE,
    BLOB_PUBLISHED,
    TEXT_WHOLE,
    UNLISTED,
    LISTED,
    PULLED,
    UNPACK_BEGUN,
    UNPACK_ENTRY,
    UNPACK_UNMARKED,
    UNPACK_MARKED,
    UNPACK_PUBLISHED,
    UNPACK_SYNCED,
    INDEX_WRITTEN,
    REMOVE_UNLISTED,
    REMOVE_COLLECT,
    REMOVE_DISCARDED,
    REMOVE_TRASH,
    REMOVED,
];
