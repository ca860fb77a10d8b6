package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

// listing is the token list command and its flags.
type listing struct {
	*tokens
	match, state, after string
	within              time.Duration
	limit               int
	asLines             bool
}

// states are what stateOf returns.
func states() []string { return []string{"good", "disabled", "expired", "not yet valid"} }

func (t *tokens) listCommand() *cobra.Command {
	l := &listing{tokens: t}
	c := &cobra.Command{
		Use:   "list",
		Short: "List the tokens, without showing them",
		Long: `List the tokens, without showing them, in the order of the file. Of several flags that
select tokens all have to hold.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return l.run() },
	}
	f := c.Flags()
	f.StringVar(&l.match, "match", "", "only ids and devices that the `PATTERN` matches, in which * stands for any text and ? for one character")
	f.StringVar(&l.state, "state", "", "only tokens in this `STATE`: good, disabled, expired or 'not yet valid'")
	f.DurationVar(&l.within, "expires-within", 0, "only tokens that expire in this `TIME`, such as 720h, and have not expired")
	f.IntVar(&l.limit, "limit", 0, "at most `N` tokens; 0 means all")
	f.StringVar(&l.after, "after", "", "only tokens behind the one with this `ID`, for the next page")
	f.BoolVar(&l.asLines, "jsonl", false, "print a JSON object on each line")
	t.jsonFlag(c)
	c.MarkFlagsMutuallyExclusive("json", "jsonl")
	return c
}

func (l *listing) run() error {
	switch {
	case l.state != "" && !slices.Contains(states(), l.state):
		return fmt.Errorf("--state %q: want good, disabled, expired or 'not yet valid'", l.state)
	case l.within < 0 || l.limit < 0:
		return errors.New("--expires-within and --limit cannot be negative")
	}
	path, err := l.path()
	if err != nil {
		return err
	}
	entries, err := tokenfile.Match(path, l.match)
	if err != nil {
		return service.MissingTokenFile(path, err)
	}
	chosen, more, err := l.choose(entries, time.Now())
	if err != nil {
		return err
	}
	if err := l.print(l.seen(viewsOf(chosen, time.Now()))); err != nil {
		return err
	}
	if more > 0 {
		fmt.Fprintf(l.stderr, "%d more; --after %s shows the next\n", more, printable(chosen[len(chosen)-1].ID))
	}
	return nil
}

// choose returns the entries of the page, and how many more there are.
func (l *listing) choose(entries []tokenfile.Entry, now time.Time) (chosen []tokenfile.Entry, more int, err error) {
	if l.after != "" {
		i := slices.IndexFunc(entries, func(e tokenfile.Entry) bool { return e.ID == l.after })
		if i < 0 {
			return nil, 0, fmt.Errorf("--after %s: there is no such id among those that are listed", printable(l.after))
		}
		entries = entries[i+1:]
	}
	for _, e := range entries {
		if l.state != "" && stateOf(e, now) != l.state {
			continue
		}
		if l.within > 0 && (e.Expires.IsZero() || !e.Expires.After(now) || e.Expires.After(now.Add(l.within))) {
			continue
		}
		if l.limit > 0 && len(chosen) == l.limit {
			more++
			continue
		}
		chosen = append(chosen, e)
	}
	return chosen, more, nil
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
