package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
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
device.`,
	}
	c.AddCommand(
		t.createCommand(), t.rotateCommand(), t.extendCommand(), t.listCommand(), t.showCommand(), t.lintCommand(),
		t.changeCommand("revoke", "Withdraw a token, or all of a device, for good", tokenfile.Revoke),
		t.changeCommand("disable", "Switch a token, or all of a device, off", tokenfile.Disable),
		t.changeCommand("enable", "Switch a token, or all of a device, on again", tokenfile.Enable),
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

func (t *tokens) createCommand() *cobra.Command {
	var expires, token, passwordFile string
	var limits []string
	var o tokenfile.CreateOptions
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a token for a device and print it, once",
		Long: `Make a token for a device and print it, once.

With --username and --password-file the device shows these instead of a token. The
file gets a hash of the password, and the id is printed.`,
		Args: one("device name"),
		RunE: func(_ *cobra.Command, args []string) error {
			o.Name = args[0]
			var err error
			if o.Password, err = givenPassword(passwordFile); err != nil {
				return err
			}
			if o.Expires, err = parseExpiry(expires, time.Now()); err != nil {
				return err
			}
			if o.Token, err = t.givenToken(token); err != nil {
				return err
			}
			if o.Limits, err = parseLimits(limits); err != nil {
				return err
			}
			path, err := t.path()
			if err != nil {
				return err
			}
			made, err := tokenfile.Create(path, o)
			if err != nil {
				return fmt.Errorf("make a token in %s: %w", path, err)
			}
			return t.printCreated(made)
		},
	}
	c.Flags().StringVar(&expires, "expires", "", "when the token ends: a `TIME` from now (720h), a date (2027-01-31T00:00:00Z), or never, which is the default")
	c.Flags().StringVar(&o.Username, "username", "", "`USER` name that the device shows with a password, instead of a token")
	passwordFlag(c, &passwordFile)
	c.Flags().StringArrayVar(&limits, "limit", nil, "a limit of the device's sessions as `NAME=VALUE`, such as publish_rate=50; may be repeated")
	c.Flags().StringVar(&token, "token", "", "take this `TOKEN` instead of a new one; - reads it from stdin, where no process list shows it")
	t.jsonFlag(c)
	return c
}

func (t *tokens) rotateCommand() *cobra.Command {
	var overlap time.Duration
	var passwordFile string
	c := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Make a new token for a device that has one, and print it, once",
		Long: `Make a new token for a device that has one, and print it, once.

Without --overlap the old token and its sessions end at once. With --password-file a
device that has a user name gets that password; the old one and its sessions end.`,
		Args: one("device name"),
		RunE: func(_ *cobra.Command, args []string) error {
			if overlap < 0 {
				return errors.New("--overlap cannot be negative")
			}
			path, err := t.path()
			if err != nil {
				return err
			}
			if passwordFile != "" {
				return t.setPassword(path, args[0], passwordFile, overlap)
			}
			made, err := tokenfile.Rotate(path, args[0], overlap)
			if err != nil {
				return notFound(err, path, args[0])
			}
			return t.printCreated(made)
		},
	}
	passwordFlag(c, &passwordFile)
	c.Flags().DurationVar(&overlap, "overlap", 0, "how long the old token stays good, such as 24h")
	t.jsonFlag(c)
	return c
}

func (t *tokens) extendCommand() *cobra.Command {
	var expires string
	c := &cobra.Command{
		Use:   "extend ID|NAME --expires TIME|never",
		Short: "Let a token, or all of a device, end at another time, or never",
		Args:  one("token id or device name"),
		RunE: func(_ *cobra.Command, args []string) error {
			if expires == "" {
				return errors.New("say when the token ends with --expires: a time from now such as 720h, a date such as 2027-01-31T00:00:00Z, or never")
			}
			at, err := parseExpiry(expires, time.Now())
			if err != nil {
				return err
			}
			path, err := t.path()
			if err != nil {
				return err
			}
			ids, err := tokenfile.Extend(path, args[0], at)
			if err != nil {
				return notFound(err, path, args[0])
			}
			end := "never"
			if !at.IsZero() {
				end = at.UTC().Format(time.RFC3339)
			}
			_, err = fmt.Fprintf(t.stdout, "expires %s: %s\n", end, strings.Join(ids, " "))
			return err
		},
	}
	c.Flags().StringVar(&expires, "expires", "", "when the token ends: a `TIME` from now (720h), a date (2027-01-31T00:00:00Z), or never")
	return c
}

// changeCommand makes a command that changes entries by id or name.
func (t *tokens) changeCommand(verb, short string, change func(path, idOrName string) ([]string, error)) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " ID|NAME",
		Short: short,
		Args:  one("token id or device name"),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := t.path()
			if err != nil {
				return err
			}
			ids, err := change(path, args[0])
			if err != nil {
				return notFound(err, path, args[0])
			}
			_, err = fmt.Fprintf(t.stdout, "%sd: %s\n", verb, strings.Join(ids, " "))
			return err
		},
	}
}

// notFound adds to an error what was not found and where.
func notFound(err error, path, idOrName string) error {
	if errors.Is(err, tokenfile.ErrNotFound) {
		return fmt.Errorf("%w: %q in %s; mqtt-auth-proxy token list shows all", err, idOrName, path)
	}
	return service.MissingTokenFile(path, err)
}

func (t *tokens) listCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the tokens, without showing them",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path, err := t.path()
			if err != nil {
				return err
			}
			entries, err := tokenfile.List(path)
			if err != nil {
				return service.MissingTokenFile(path, err)
			}
			return t.printList(entries)
		},
	}
	t.jsonFlag(c)
	return c
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
			if err != nil {
				return notFound(err, path, args[0])
			}
			return t.printJSON(viewsOf(entries, time.Now()))
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

// givenToken returns the token of the --token flag, zero without one.
func (t *tokens) givenToken(flag string) (authz.Token, error) {
	switch flag {
	case "":
		return authz.Token{}, nil
	case "-":
		line, err := bufio.NewReader(io.LimitReader(os.Stdin, 64<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return authz.Token{}, fmt.Errorf("read the token from stdin: %w", err)
		}
		return authz.NewToken(strings.TrimRight(line, "\r\n")), nil
	}
	return authz.NewToken(flag), nil
}

// parseLimits reads the --limit flags.
func parseLimits(flags []string) (l authz.Limits, err error) {
	seen := map[string]bool{}
	for _, flag := range flags {
		name, value, ok := strings.Cut(flag, "=")
		switch {
		case !ok:
			return l, fmt.Errorf("--limit %q: want NAME=VALUE, such as publish_rate=50", flag)
		case seen[name]:
			return l, fmt.Errorf("--limit %s is given twice", name)
		}
		seen[name] = true
		if err := l.ParseLimit(name, value); err != nil {
			return l, fmt.Errorf("--limit %s: %w", flag, err)
		}
	}
	return l, nil
}

// parseExpiry reads a time from now, a date, or never, for which it returns the zero
// time.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	if s == "" || s == "never" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		if d <= 0 {
			return time.Time{}, errors.New("--expires must lie in the future")
		}
		return now.Add(d), nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("--expires %q: want a time from now such as 720h, a date such as 2027-01-31T00:00:00Z, or never", s)
	}
	return at, nil
}
