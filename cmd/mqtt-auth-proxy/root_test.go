package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// TestErrorsDoNotDriveTheTerminal: an error may repeat what a device, a file or the
// environment chose.
func TestErrorsDoNotDriveTheTerminal(t *testing.T) {
	got := errorText(errors.New("no session of \x1b[2J\u202epump\u009b7m\r\nnext line"))
	if want := "mqtt-auth-proxy: no session of ?[2J?pump?7m?\nnext line"; got != want {
		t.Errorf("the error is printed as %q, want %q", got, want)
	}
}

// TestErrorsOfTheFileSystemSayWhatToDo, wherever they come from. A port below 1024 is no file.
func TestErrorsOfTheFileSystemSayWhatToDo(t *testing.T) {
	of := func(cause error) error {
		return fmt.Errorf("admin token: %w", &fs.PathError{Op: "stat", Path: "/var/lib/x", Err: cause})
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{of(syscall.EACCES), "permission denied\nRun the command as the user"},
		{of(syscall.EROFS), "\nThe file system is mounted read-only"},
		{of(syscall.ENOSPC), "\nMake room"},
	} {
		if got := errorText(c.err); !strings.Contains(got, c.want) {
			t.Errorf("%q lacks %q", got, c.want)
		}
	}
	for _, err := range []error{errors.New("x"), of(syscall.ENOENT), fmt.Errorf("listen: %w", syscall.EACCES)} {
		if got := errorText(err); strings.Contains(got, "\n") {
			t.Errorf("%q has advice", got)
		}
	}
}
