package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

// tokens is the token command, with the flags that its subcommands share.
type tokens struct {
	*program
	file, source string // flags
	to           string // flag of import
	asJSON       bool   // flag
}

func (p *program) tokenCommand() *cobra.Command {
	t := &tokens{program: p}
	c := &cobra.Command{
		Use:   "token",
		Short: "Create, list and revoke tokens",
		Long: `Create, list and revoke tokens.

The commands work on a token file, or on the proxy's own tables in PostgreSQL: on
the first such source of the config, or on the one that --file or --source names.
A running proxy applies every change within a second and ends the sessions of
tokens that are revoked. NAME is the name of a device. A command for several names
changes all of them or, after an error, none.`,
		Example: `  mqtt-auth-proxy token create pump-7
  mqtt-auth-proxy token list --match 'pump-*'
  mqtt-auth-proxy token revoke pump-7`,
	}
	c.AddCommand(
		t.createCommand(), t.rotateCommand(), t.extendCommand(), t.listCommand(), t.showCommand(), t.lintCommand(),
		t.importCommand(), t.exportCommand(), t.checkCommand(),
		t.changeCommand("revoke", "Revoke tokens, or all tokens of a device, permanently", (*tokenfile.Edit).Revoke),
		t.changeCommand("disable", "Disable tokens, or all tokens of a device", (*tokenfile.Edit).Disable),
		t.changeCommand("enable", "Enable disabled tokens, or all tokens of a device", (*tokenfile.Edit).Enable),
	)
	for _, sub := range c.Commands() {
		p.configFlags(sub)
		sub.Flags().StringVar(&t.file, "file", "", "token `FILE`, instead of a source of the config")
		sub.Flags().StringVar(&t.source, "source", "", "`NAME` of the source to work on, such as file0 or postgres0, instead of the config's first")
		exclusive := []string{"file", "source"}
		if sub.Name() == "import" {
			exclusive = append(exclusive, "to")
		}
		sub.MarkFlagsMutuallyExclusive(exclusive...)
		_ = sub.RegisterFlagCompletionFunc("source", t.completeSources)
	}
	return c
}

// store returns the store that the command works on.
func (t *tokens) store() (service.TokenStore, error) {
	if t.file != "" {
		return service.TokenFile(t.file), nil
	}
	if t.to != "" && !isSourceName(t.to) {
		return service.TokenFile(t.to), nil
	}
	c, err := t.loadConfig()
	if err != nil {
		return nil, err
	}
	stores, err := service.TokenStores(c)
	if err != nil {
		return nil, err
	}
	if len(stores) == 0 {
		return nil, errors.New("the config has neither a token file nor a source postgres without a query; name a token file with --file")
	}
	name := cmp.Or(t.source, t.to)
	if name == "" {
		if len(stores) > 1 {
			fmt.Fprintf(t.stderr, "working on %s; --source chooses another of %s\n", stores[0].Name, namesOf(stores))
		}
		return stores[0].TokenStore, nil
	}
	for _, s := range stores {
		if s.Name == name {
			return s.TokenStore, nil
		}
	}
	return nil, fmt.Errorf("the config has no source %s with tokens to work on; it has %s", name, namesOf(stores))
}

// isSourceName reports whether a text names a source and not a file. To name a file with such a
// name, write ./NAME.
func isSourceName(text string) bool {
	return regexp.MustCompile(`^(file|postgres)[0-9]+$`).MatchString(text)
}

func namesOf(stores []service.NamedStore) string {
	names := make([]string, len(stores))
	for i, s := range stores {
		names[i] = s.Name
	}
	return strings.Join(names, ", ")
}

// isFormat reports whether an error has the lines of a file, which say where it is.
func isFormat(err error) bool {
	_, ok := errors.AsType[*tokenfile.FormatError](err)
	return ok
}

// update makes one edit of the tokens, which takes effect as a whole or not at all. Every command
// that changes tokens calls it. The edit may look up only what is in the scope. If create is true,
// a missing file is created.
func (t *tokens) update(ctx context.Context, create bool, s tokenfile.Scope, change func(*tokenfile.Edit) error) error {
	store, err := t.store()
	if err != nil {
		return err
	}
	err = store.Update(ctx, create, s, change)
	if create && err != nil && !errors.Is(err, errNothingDone) && !isFormat(err) {
		return fmt.Errorf("make a token in %s: %w", store, err)
	}
	return where(store, err)
}

// where adds to the error about a name that was not found where it was looked for.
func where(store service.TokenStore, err error) error {
	if errors.Is(err, tokenfile.ErrNotFound) {
		return fmt.Errorf("%w in %s; mqtt-auth-proxy token list shows all", err, store)
	}
	return err
}

func (t *tokens) showCommand() *cobra.Command {
	c := &cobra.Command{
		Use:               "show ID|NAME",
		Short:             "Show everything that is known about a token, or about the tokens of a device",
		Example:           `  mqtt-auth-proxy token show pump-7`,
		Args:              one("token id or device name"),
		ValidArgsFunction: t.completeDevices,
		RunE: func(c *cobra.Command, args []string) error {
			store, err := t.store()
			if err != nil {
				return err
			}
			var entries []tokenfile.Entry
			err = store.Each(c.Context(), tokenfile.Scope{Names: args}, func(e tokenfile.Entry, _ []byte) error {
				entries = append(entries, e)
				return nil
			})
			if err == nil && len(entries) == 0 {
				err = fmt.Errorf("%w: %q", tokenfile.ErrNotFound, args[0])
			}
			if len(entries) == 0 {
				return where(store, err)
			}
			return errors.Join(t.printJSON(t.seen(viewsOf(entries, time.Now()))), err) // err names faulty rows
		},
	}
	return c
}

func (t *tokens) lintCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "lint",
		Short:   "Check all tokens and print what should be corrected",
		Example: `  mqtt-auth-proxy token lint --file tokens.jsonl`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			store, err := t.store()
			if err != nil {
				return err
			}
			warnings, err := store.Lint(c.Context())
			if err != nil {
				return err
			}
			for _, w := range warnings {
				fmt.Fprintln(t.stderr, "warning:", w)
			}
			_, err = fmt.Fprintf(t.stdout, "%s: good\n", store)
			return err
		},
	}
}

func (t *tokens) jsonFlag(c *cobra.Command) {
	c.Flags().BoolVar(&t.asJSON, "json", false, "print JSON")
}
