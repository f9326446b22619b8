//! SQLite: schema, the recorder, queries; events, commands and records as data.
