//! The dashboard: state, update, view.
