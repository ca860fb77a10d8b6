// Package host is what the process needs from the machine that it runs on, and what it
// gives up there:
//
//   - [Systemd] reports to the service manager, and [Sockets] are those that the manager
//     has opened for the process.
//   - [Listen] opens listening sockets whose connections notice dead peers, and [Divert]
//     hands new connections over to the next process.
//   - [Confine] gives up the right to use files outside certain directories.
//   - [MemoryGuard] keeps the process below its memory limit and sets the pace of garbage
//     collection.
//   - [AddProcessors] and [DescriptorLimit] concern processors and file descriptors.
//
// What a system lacks is either no error, such as a service manager that is not there, or
// one that names it, such as [ErrNoSandbox].
package host
