//! What is shared through a bucket: names of objects, their forms, and the rules for believing them. Knows nothing
//! about connections; everything that comes from a bucket is hostile until one of the checks here has passed.

pub mod build;
pub mod fit;
pub mod keys;
pub mod manifest;
pub mod member;
pub mod origin;
pub mod records;
pub mod secrets;
pub mod shared;
pub mod url;
pub mod used;
