//! Open vSwitch behind [`crate::switch::Switch`].
