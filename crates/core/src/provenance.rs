//! Where an entry, an input record or a unit of a snapshot comes from. Decides nothing about trust: which keys are
//! believed is a matter of settings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Who made something. It is a note of this store and never leaves it: what comes from a remote is told again.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// Stored by a kache that kept no such note.
    #[default]
    Unknown,
    /// A compiler or a build script of this machine.
    Here,
    /// It came from a remote with a valid signature of this public key, in hexadecimal; where several had to sign, of
    /// these, with commas.
    Signed(String),
    /// It came from a remote, and no signature of it was valid.
    Unsigned,
}

impl Provenance {
    pub fn is_unknown(&self) -> bool {
        *self == Provenance::Unknown
    }

    /// Whether it was made on this machine.
    pub fn is_here(&self) -> bool {
        *self == Provenance::Here
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Provenance::Unknown => f.write_str("unknown"),
            Provenance::Here => f.write_str("here"),
            Provenance::Signed(key) => write!(f, "signed {key}"),
            Provenance::Unsigned => f.write_str("unsigned"),
        }
    }
}

impl FromStr for Provenance {
    type Err = ();

    /// What is not understood is as good as unknown, and never made here.
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "unknown" => Ok(Provenance::Unknown),
            "here" => Ok(Provenance::Here),
            "unsigned" => Ok(Provenance::Unsigned),
            _ => text.strip_prefix("signed ").map(|key| Provenance::Signed(key.to_owned())).ok_or(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_back_to_what_they_say() {
        for one in [
            Provenance::Unknown,
            Provenance::Here,
            Provenance::Unsigned,
            Provenance::Signed("ab12".to_owned()),
        ] {
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        assert_eq!("Here".parse::<Provenance>(), Err(()));
    }
}
