package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// listing is the token list command and its flags.
type listing struct {
	*tokens
	match, state, after string
	within              time.Duration
	limit               int
	asLines             bool
}

func (t *tokens) listCommand() *cobra.Command {
	l := &listing{tokens: t}
	c := &cobra.Command{
		Use:   "list",
		Short: "List the tokens, without the secrets",
		Long: `List the tokens in the order in which they were added, without the secrets. If
several flags select tokens, only those that match all of them are listed.`,
		Example: `  mqtt-auth-proxy token list --match 'pump-*' --state good
  mqtt-auth-proxy token list --expires-within 720h`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return l.run(c.Context()) },
	}
	f := c.Flags()
	f.StringVar(&l.match, "match", "", "only ids and devices that the `PATTERN` matches, in which * stands for any text and ? for one character")
	f.StringVar(&l.state, "state", "", "only tokens in this `STATE`: good, disabled, expired or 'not yet valid'")
	f.DurationVar(&l.within, "expires-within", 0, "only tokens that expire in this `TIME`, such as 720h, and have not expired")
	f.IntVar(&l.limit, "limit", 0, "at most `N` tokens; 0 means all")
	f.StringVar(&l.after, "after", "", "only tokens behind the one with this `ID`, for the next page")
	f.BoolVar(&l.asLines, "jsonl", false, "print a JSON object on each line")
	t.jsonFlag(c)
	completeChoices(c, "state", tokenfile.States()...)
	c.MarkFlagsMutuallyExclusive("json", "jsonl")
	return c
}

func (l *listing) run(ctx context.Context) error {
	switch {
	case l.state != "" && !slices.Contains(tokenfile.States(), l.state):
		return fmt.Errorf("--state %q: want good, disabled, expired or 'not yet valid'", l.state)
	case l.within < 0 || l.limit < 0:
		return errors.New("--expires-within and --limit cannot be negative")
	}
	store, err := l.store()
	if err != nil {
		return err
	}
	now := time.Now()
	page, err := store.Page(ctx, tokenfile.Query{
		Pattern: l.match, State: l.state, ExpiresWithin: l.within, Now: now, After: l.after, Limit: l.limit,
	})
	switch {
	case l.after != "" && errors.Is(err, tokenfile.ErrNotFound):
		return fmt.Errorf("--after %s: there is no such id", printable(l.after))
	case err != nil:
		return err
	}
	if err := l.print(l.seen(viewsOf(page.Entries, now))); err != nil {
		return err
	}
	if more := page.Total - l.limit; l.limit > 0 && more > 0 {
		fmt.Fprintf(l.stderr, "%d more; --after %s shows the next\n", more, printable(page.Last))
	}
	if len(page.Faults) > 0 {
		return errors.New(strings.Join(page.Faults, "\n"))
	}
	return nil
}

// matching returns the scope of the --match flag, which without it is that of all entries.
func matching(pattern string) tokenfile.Scope {
	if pattern == "" {
		return tokenfile.All()
	}
	return tokenfile.Scope{Pattern: pattern}
}

func (l *listing) print(views []tokenView) error {
	switch {
	case l.asJSON:
		return l.printJSON(views)
	case l.asLines:
		out := bufio.NewWriter(l.stdout)
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		for _, v := range views {
			_ = enc.Encode(v) // out keeps the error
		}
		return out.Flush()
	}
	w := tabwriter.NewWriter(l.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSUBJECT\tTOKEN\tSTATE\tEXPIRES\tLAST SEEN")
	for _, v := range views {
		expires := "never"
		if v.Expires != nil {
			expires = v.Expires.Format(time.RFC3339)
		}
		token := v.Fingerprint
		if v.Password {
			token = "password"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", printable(v.ID), printable(v.Subject), token, v.State, expires, timeOrDash(v.LastSeen))
	}
	return w.Flush()
}
