//! One TOML file, and what it means.
