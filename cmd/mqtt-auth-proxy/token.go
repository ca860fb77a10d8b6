package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

// tokens is the token command, with the flags that its subcommands share.
type tokens struct {
	*program
	file   string // flag
	asJSON bool   // flag
}

func (p *program) tokenCommand() *cobra.Command {
	t := &tokens{program: p}
	c := &cobra.Command{
		Use:   "token",
		Short: "Make, list and withdraw tokens",
		Long: `Make, list and withdraw tokens.

The commands change the token file itself. A running proxy notices every change
within a second and ends the sessions of a token that is withdrawn. NAME is the
device. A command changes all that it names, or nothing if it fails.`,
	}
	c.AddCommand(
		t.createCommand(), t.rotateCommand(), t.extendCommand(), t.listCommand(), t.showCommand(), t.lintCommand(),
		t.importCommand(), t.exportCommand(), t.checkCommand(),
		t.changeCommand("revoke", "Withdraw tokens, or all of a device, for good", (*tokenfile.Edit).Revoke),
		t.changeCommand("disable", "Switch tokens, or all of a device, off", (*tokenfile.Edit).Disable),
		t.changeCommand("enable", "Switch tokens, or all of a device, on again", (*tokenfile.Edit).Enable),
	)
	for _, sub := range c.Commands() {
		p.configFlags(sub)
		sub.Flags().StringVar(&t.file, "file", "", "token `FILE`, instead of the config's")
	}
	return c
}

// path returns the token file that the flags or the config name.
func (t *tokens) path() (string, error) {
	if t.file != "" {
		return t.file, nil
	}
	c, err := t.loadConfig()
	if err != nil {
		return "", err
	}
	for _, source := range c.Auth.Sources {
		if source.File != nil {
			return source.File.Path, nil
		}
	}
	return "", errors.New("the config has no token file: name one with --file")
}

// isFormat reports whether an error has the lines of a file, which say where it is.
func isFormat(err error) bool {
	_, ok := errors.AsType[*tokenfile.FormatError](err)
	return ok
}

// update makes one edit of the tokens, which takes effect as a whole or not at all. Every command
// that changes tokens calls it. If create is true, a missing file is created.
func (t *tokens) update(create bool, change func(*tokenfile.Edit) error) error {
	path, err := t.path()
	if err != nil {
		return err
	}
	err = tokenfile.Update(path, create, change)
	switch {
	case errors.Is(err, tokenfile.ErrNotFound):
		return fmt.Errorf("%w in %s; mqtt-auth-proxy token list shows all", err, path)
	case create && err != nil && !errors.Is(err, errNothingDone) && !isFormat(err):
		return fmt.Errorf("make a token in %s: %w", path, err)
	}
	return service.MissingTokenFile(path, err)
}

func (t *tokens) showCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "show ID|NAME",
		Short: "Show everything that the file says about a token, or about the tokens of a device",
		Args:  one("token id or device name"),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := t.path()
			if err != nil {
				return err
			}
			entries, err := tokenfile.Show(path, args[0])
			if errors.Is(err, tokenfile.ErrNotFound) {
				return fmt.Errorf("%q: %w in %s; mqtt-auth-proxy token list shows all", args[0], err, path)
			}
			if err != nil {
				return service.MissingTokenFile(path, err)
			}
			return t.printJSON(t.seen(viewsOf(entries, time.Now())))
		},
	}
	return c
}

func (t *tokens) lintCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lint",
		Short: "Check the token file and print what should be corrected",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path, err := t.path()
			if err != nil {
				return err
			}
			warnings, err := tokenfile.Lint(path)
			if err != nil {
				return service.MissingTokenFile(path, err)
			}
			for _, w := range warnings {
				fmt.Fprintln(t.stderr, "warning:", w)
			}
			_, err = fmt.Fprintf(t.stdout, "%s: good\n", path)
			return err
		},
	}
}

func (t *tokens) jsonFlag(c *cobra.Command) {
	c.Flags().BoolVar(&t.asJSON, "json", false, "print JSON")
}
