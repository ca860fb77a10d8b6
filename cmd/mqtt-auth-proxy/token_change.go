package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// selection says which tokens or devices a command is to change.
type selection struct {
	match       string // flag
	yes, dryRun bool   // flags
}

// errNothingDone ends an edit that only shows what it would change.
var errNothingDone = errors.New("nothing has been changed")

func (s *selection) addFlags(c *cobra.Command, what string) {
	c.Flags().StringVar(&s.match, "match", "", "all "+what+" that the `PATTERN` matches, in which * matches any text and ? one character")
	c.Flags().BoolVar(&s.yes, "yes", false, "change all that --match finds")
	c.Flags().BoolVar(&s.dryRun, "dry-run", false, "show what would be changed, and change nothing")
}

// names returns the arguments, each once, with the lines of stdin in place of -.
func (s *selection) names(c *cobra.Command, args []string) (names []string, err error) {
	switch {
	case s.match == "" && len(args) == 0:
		return nil, fmt.Errorf("name the devices or tokens, select them with --match, or read names from stdin with -: %s", c.UseLine())
	case s.match != "" && len(args) > 0:
		return nil, errors.New("give names or --match, not both")
	case s.yes && s.match == "":
		return nil, errors.New("--yes is for --match; names are changed without it")
	}
	for _, arg := range args {
		more := []string{arg}
		if arg == "-" {
			if more, err = namesFrom("-"); err != nil {
				return nil, err
			}
		}
		names = append(names, more...)
	}
	seen := make(map[string]bool, len(names))
	return slices.DeleteFunc(names, func(name string) bool {
		again := seen[name]
		seen[name] = true
		return again
	}), nil
}

// held reports whether the edit is only to be shown.
func (s *selection) held() bool { return s.dryRun || s.match != "" && !s.yes }

// settle returns nil if the result of an edit that ended with err is to be printed, because it was
// made or is only to be shown. Otherwise it returns the error to report.
func (s *selection) settle(t *tokens, err error, verb string, found int) error {
	switch {
	case !errors.Is(err, errNothingDone):
		return err
	case !s.dryRun:
		return fmt.Errorf("--match %s finds %d; add --yes to %s them all, or --dry-run to list them", s.match, found, verb)
	}
	fmt.Fprintln(t.stderr, "dry run: nothing has been changed")
	return nil
}

// change applies do to everything that was selected. If devices is true, names are those of
// devices, not ids. It returns errNothingDone if the edit was only to be shown.
func (t *tokens) change(ctx context.Context, s *selection, names []string, devices bool, do func(e *tokenfile.Edit, names []string) error) ([]string, error) {
	err := t.update(ctx, false, tokenfile.Scope{Names: names, Pattern: s.match}, func(e *tokenfile.Edit) error {
		if s.match != "" {
			if names = e.Match(s.match); devices {
				names = e.MatchDevices(s.match)
			}
			if len(names) == 0 {
				return fmt.Errorf("--match %s finds nothing", s.match)
			}
		}
		if err := do(e, names); err != nil {
			return err
		}
		if s.held() {
			return errNothingDone
		}
		return nil
	})
	return names, err
}

// changeCommand makes a command that changes entries by id or name.
func (t *tokens) changeCommand(verb, short string, change func(e *tokenfile.Edit, names ...string) ([]string, error)) *cobra.Command {
	s := &selection{}
	c := &cobra.Command{
		Use:   verb + " ID|NAME...",
		Short: short,
		Long: short + `.

Each argument is the id of a token or the name of a device; - reads them from stdin,
one on each line. Either all of them are changed or, after an error, none.`,
		Example:           "  mqtt-auth-proxy token " + verb + " pump-7\n  mqtt-auth-proxy token " + verb + " --match 'pump-*' --dry-run",
		ValidArgsFunction: t.completeDevices,
		RunE: func(c *cobra.Command, args []string) error {
			return t.changeEntries(c, s, args, verb+"d", func(e *tokenfile.Edit, names []string) ([]string, error) { return change(e, names...) })
		},
	}
	s.addFlags(c, "ids and devices")
	return c
}

// changeEntries changes the entries that were selected and prints a line with done for each.
func (t *tokens) changeEntries(c *cobra.Command, s *selection, args []string, done string, change func(*tokenfile.Edit, []string) ([]string, error)) error {
	names, err := s.names(c, args)
	if err != nil {
		return err
	}
	var ids []string
	_, err = t.change(c.Context(), s, names, false, func(e *tokenfile.Edit, names []string) (err error) {
		ids, err = change(e, names)
		return err
	})
	if err := s.settle(t, err, c.Name(), len(ids)); err != nil {
		return err
	}
	return t.printEach(done+": ", ids)
}

func (t *tokens) extendCommand() *cobra.Command {
	var expires string
	s := &selection{}
	c := &cobra.Command{
		Use:   "extend ID|NAME... --expires TIME|never",
		Short: "Change when tokens, or all tokens of a device, expire",
		Example: `  mqtt-auth-proxy token extend pump-7 --expires 720h
  mqtt-auth-proxy token extend pump-7 --expires 2027-01-31T00:00:00Z`,
		ValidArgsFunction: t.completeDevices,
		RunE: func(c *cobra.Command, args []string) error {
			if expires == "" {
				return errors.New("set with --expires when the token expires: a time from now such as 720h, a date such as 2027-01-31T00:00:00Z, or never")
			}
			at, err := parseTime("expires", expires, time.Now())
			if err != nil {
				return err
			}
			end := "never"
			if !at.IsZero() {
				end = at.UTC().Format(time.RFC3339)
			}
			return t.changeEntries(c, s, args, "expires "+end, func(e *tokenfile.Edit, names []string) ([]string, error) { return e.Extend(at, names...) })
		},
	}
	c.Flags().StringVar(&expires, "expires", "", "when the token expires: a `TIME` from now (720h), a date (2027-01-31T00:00:00Z), or never")
	s.addFlags(c, "ids and devices")
	return c
}

func (t *tokens) rotateCommand() *cobra.Command {
	var overlap time.Duration
	var passwordFile string
	s := &selection{}
	c := &cobra.Command{
		Use:   "rotate NAME...",
		Short: "Replace the token of each device by a new one and print it, once",
		Long: `Replace the token of each device by a new one and print it, once. The argument -
reads names from stdin, one on each line. For several devices a line has the name,
a tab and the token. Either all devices get a new token or, after an error, none.

Without --overlap the old token and its sessions end at once. With --password-file
the password of a user is replaced; sessions with the old one end.`,
		Example: `  mqtt-auth-proxy token rotate pump-7 --overlap 24h
  mqtt-auth-proxy token rotate --match 'pump-*' --overlap 24h --yes > new-tokens.tsv`,
		ValidArgsFunction: t.completeDevices,
		RunE: func(c *cobra.Command, args []string) error {
			names, err := s.names(c, args)
			switch {
			case err != nil:
				return err
			case overlap < 0:
				return errors.New("--overlap cannot be negative")
			case passwordFile == "":
				return t.rotate(c.Context(), s, names, overlap, len(args) == 1 && args[0] != "-")
			case len(names) != 1 || s.dryRun:
				return errors.New("--password-file is for one name, without --match and --dry-run")
			}
			return t.setPassword(c.Context(), names[0], passwordFile, overlap)
		},
	}
	passwordFlag(c, &passwordFile)
	c.Flags().DurationVar(&overlap, "overlap", 0, "how long the old token stays valid, such as 24h")
	s.addFlags(c, "devices with a token")
	t.jsonFlag(c)
	return c
}

// rotate makes the new tokens. A single one is printed alone.
func (t *tokens) rotate(ctx context.Context, s *selection, names []string, overlap time.Duration, single bool) error {
	var made []tokenfile.Created
	names, err := t.change(ctx, s, names, true, func(e *tokenfile.Edit, names []string) error {
		for _, name := range names {
			x, err := e.Rotate(name, overlap)
			if errors.Is(err, tokenfile.ErrNotFound) {
				return err
			}
			if err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
			made = append(made, x)
		}
		return nil
	})
	if err := s.settle(t, err, "rotate", len(names)); err != nil {
		return err
	}
	switch {
	case s.dryRun:
		return t.printEach("rotated: ", names)
	case single:
		return t.printCreated(made[0])
	}
	return t.printAllCreated(made)
}
