package main

import (
	"errors"
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
