//go:build !linux

package host

// restrict would allow the use of these directories and files only.
func restrict(_, _ []string) error { return ErrNoSandbox }
