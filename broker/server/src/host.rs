//! Runs the plugins.
