package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/refusals"
)

// refused is the refusals command. It asks the admin side of the proxy that the configuration
// describes.
type refused struct {
	*program
	subject, clientID, address, reason, since string // flags
	limit                                     int    // flag
	asJSON                                    bool   // flag
}

func (p *program) refusalsCommand() *cobra.Command {
	r := &refused{program: p}
	c := &cobra.Command{
		Use:   "refusals",
		Short: "Show why devices were refused by a running proxy",
		Long: `Show why devices were refused by a running proxy, through its admin side. Address and
token of the admin side are those of --config and --data.`,
		Example: `  mqtt-auth-proxy refusals list --since 1h`,
	}
	c.AddCommand(r.listCommand(), r.reasonsCommand())
	for _, sub := range c.Commands() {
		p.configFlags(sub)
		sub.Flags().BoolVar(&r.asJSON, "json", false, "print JSON")
	}
	return c
}

func (r *refused) listCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the last refusals, the newest first",
		Long: `List the last refusals, the newest first. All refusals of one device for one reason
are one row: COUNT is how many there were, and the rest is that of the last one.`,
		Example: `  mqtt-auth-proxy refusals list --client-id pump-7 --since 1h
  mqtt-auth-proxy refusals list --reason unknown_token --address 203.0.113.0/24`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return r.list(c.Context()) },
	}
	c.Flags().StringVar(&r.subject, "subject", "", "only refusals of this `DEVICE` whose token is known")
	c.Flags().StringVar(&r.clientID, "client-id", "", "only refusals with this client `ID`")
	c.Flags().StringVar(&r.address, "address", "", "only refusals from this `IP` address or network")
	c.Flags().StringVar(&r.reason, "reason", "", "only refusals for this `REASON`")
	c.Flags().StringVar(&r.since, "since", "", "only refusals since this `TIME` (RFC 3339), or for so long, such as 90m")
	c.Flags().IntVar(&r.limit, "limit", 100, "list at most `N` rows, 1 to 10000")
	r.completeSubject(c)
	completeChoices(c, "reason", refusals.Reasons()...)
	return c
}

func (r *refused) reasonsCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "reasons",
		Short:   "Count the refusals of the last hour and day, and say what to do",
		Example: `  mqtt-auth-proxy refusals reasons`,
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return r.reasons(c.Context()) },
	}
}

func (r *refused) list(ctx context.Context) error {
	found, err := r.find(ctx, url.Values{
		"subject": {r.subject}, "client_id": {r.clientID}, "address": {r.address}, "reason": {r.reason}, "since": {r.since},
		"limit": {fmt.Sprint(r.limit)},
	})
	if err != nil {
		return err
	}
	if r.asJSON {
		return r.printJSON(found.Page)
	}
	w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LAST\tCOUNT\tFIRST\tREASON\tCODE\tSUBJECT\tCLIENT ID\tADDRESS\tLISTENER\tTOKEN\tDETAIL")
	for _, v := range found.Refusals { // whose texts are escaped
		address := "-"
		if v.Address.IsValid() {
			address = v.Address.String()
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Last.Format(time.RFC3339), v.Count, v.First.Format(time.RFC3339),
			v.Reason, codeIn(v.Version, v.Code), orDash(v.Subject), orDash(v.ClientID), address, v.Listener, orDash(v.Fingerprint), v.Detail)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if more := found.Total - len(found.Refusals); more > 0 {
		fmt.Fprintf(r.stderr, "%d more; --limit shows more\n", more)
	}
	return nil
}

// reasons prints a paragraph for each reason, because the texts are too long for a table.
func (r *refused) reasons(ctx context.Context) error {
	found, err := r.find(ctx, url.Values{"limit": {"1"}})
	if err != nil {
		return err
	}
	if r.asJSON {
		return r.printJSON(found.Reasons)
	}
	for i, n := range found.Reasons {
		if i > 0 {
			fmt.Fprintln(r.stdout)
		}
		_, err := fmt.Fprintf(r.stdout, "%s: %d in the last hour, %d in the last day\n  %s\n  What to do: %s\n", n.Reason, n.Hour, n.Day, n.Meaning, n.Advice)
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *refused) find(ctx context.Context, q url.Values) (found admin.Refusals, err error) {
	err = r.call(ctx, http.MethodGet, "/v1/refusals?"+q.Encode(), &found)
	return found, err
}

// codeIn returns the code of a CONNACK as the standard of that version writes it.
func codeIn(version string, code uint8) string {
	switch {
	case code == 0:
		return "-"
	case version == "5.0":
		return fmt.Sprintf("0x%02X", code)
	}
	return fmt.Sprint(code)
}

// orDash returns a text of a column that may be empty.
func orDash(text string) string { return cmp.Or(text, "-") }
