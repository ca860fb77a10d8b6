package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// maxPasswordFile is the size in bytes of the largest file with a password.
const maxPasswordFile = 64 << 10

// readSecret reads from r up to and including the first end byte. A text that is longer than any
// secret is an error, because a part of it would be a different secret.
func readSecret(r io.Reader, end byte) (string, error) {
	text, err := bufio.NewReader(io.LimitReader(r, maxPasswordFile+1)).ReadString(end)
	switch {
	case len(text) > maxPasswordFile:
		return "", errors.New("longer than 64 KiB")
	case errors.Is(err, io.EOF):
		err = nil
	}
	return text, err
}

func passwordFlag(c *cobra.Command, file *string) {
	c.Flags().StringVar(file, "password-file", "", "`FILE` with the password of the user name; - reads it from stdin")
}

// givenPassword returns the password in the file that the flag names, without the line end, or
// zero without the flag.
func givenPassword(file string) (authz.Token, error) {
	var content string
	var err error
	switch file {
	case "":
		return authz.Token{}, nil
	case "-":
		content, err = readSecret(os.Stdin, 0) // no password has a NUL
	default:
		var b []byte
		b, _, err = files.Read(file, maxPasswordFile)
		content = string(b)
	}
	if err != nil {
		return authz.Token{}, fmt.Errorf("read the password: %w", err)
	}
	return authz.NewToken(strings.TrimSuffix(strings.TrimSuffix(content, "\n"), "\r")), nil
}

// setPassword gives a device another password.
func (t *tokens) setPassword(ctx context.Context, idOrName, file string, overlap time.Duration) error {
	if overlap != 0 {
		return errors.New("--overlap is for tokens; a user name has one password at a time")
	}
	password, err := givenPassword(file)
	if err != nil {
		return err
	}
	var id string
	err = t.update(ctx, false, tokenfile.Scope{Names: []string{idOrName}}, func(e *tokenfile.Edit) (err error) {
		id, err = e.SetPassword(idOrName, password)
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "password set: %s\n", id)
	return err
}
