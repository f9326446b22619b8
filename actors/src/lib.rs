//! Who does what: one actor a file, their messages, supervision, the control socket.
