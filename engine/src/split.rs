//! placeholder until the draw lands
use crate::types::Amount;
use serde::{Deserialize, Serialize};
/// seed
pub type Seed = [u8; 32];
/// rule
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SplitRule { Lucky { min_share: Amount, max_share: Option<Amount> }, Uniform { min_share: Amount }, Equal, Specified(Vec<Amount>) }
