// Package host deals with the machine that the process runs on:
//
//   - [Systemd] reports to the service manager, and [Sockets] are the sockets that the manager
//     has opened for the process.
//   - [Listen] opens listening sockets whose connections notice dead peers, and [Divert]
//     hands new connections over to the next process.
//   - [Confine] gives up the right to use files outside certain directories.
//   - [MemoryGuard] keeps the process below its memory limit and sets the pace of garbage
//     collection.
//   - [AddProcessors] and [DescriptorLimit] concern processors and file descriptors.
//
// If the system lacks a feature, that is either no error, as for a missing service manager, or
// a specific one such as [ErrNoSandbox].
package host
