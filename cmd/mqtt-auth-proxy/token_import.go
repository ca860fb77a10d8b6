package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenimport"
)

// imports is the token import command and its flags.
type imports struct {
	*tokens
	format, hash          string
	rounds                int
	replace, skip, dryRun bool
}

func (t *tokens) importCommand() *cobra.Command {
	m := &imports{tokens: t}
	c := &cobra.Command{
		Use:   "import FILE --format csv|jsonl|mosquitto|emqx|thingsboard|hivemq",
		Short: "Import the credentials that devices already have",
		Long: `Import the credentials that devices already have. The argument - reads stdin. Either
all entries are imported or, after an error, none. Every fault is reported with its
line.

Of passwords in plain text only hashes are stored. To compute a hash takes a tenth of
a second of processor time. For random passwords --rounds 1000 is enough, and takes
hardly any time.`,
		Example: `  mqtt-auth-proxy token import passwd --format mosquitto --dry-run
  mqtt-auth-proxy token import devices.csv --format csv --skip-existing`,
		Args: one("file to read"),
		RunE: func(c *cobra.Command, args []string) error { return m.run(c.Context(), args[0]) },
	}
	f := c.Flags()
	f.StringVar(&m.format, "format", "", "`FORMAT` of the file: csv, jsonl, mosquitto, emqx, thingsboard or hivemq")
	f.StringVar(&t.to, "to", "", "token `FILE`, like --file, or the name of a source, like --source")
	f.StringVar(&m.hash, "hash", "", "how EMQX made its `HASHES`: bcrypt, sha256:prefix, sha256:suffix, sha256:none, the same with sha512, or pbkdf2:sha256:ROUNDS; plain for a file of HiveMQ without hashes")
	f.IntVar(&m.rounds, "rounds", 0, "use `N` rounds of PBKDF2 instead of 210000 for passwords that are not hashed yet")
	f.BoolVar(&m.replace, "replace", false, "replace all entries of devices that already exist")
	f.BoolVar(&m.skip, "skip-existing", false, "leave devices that already exist as they are")
	f.BoolVar(&m.dryRun, "dry-run", false, "only check the file, and print what would be done")
	c.MarkFlagsMutuallyExclusive("replace", "skip-existing")
	completeChoices(c, "format", "csv", "jsonl", "mosquitto", "emqx", "thingsboard", "hivemq")
	return c
}

func (m *imports) run(ctx context.Context, file string) error {
	if m.format == "" {
		return errors.New("set the format of the file with --format: csv, jsonl, mosquitto, emqx, thingsboard or hivemq")
	}
	batch, err := m.read(ctx, file)
	if err != nil {
		return err
	}
	existing := tokenfile.RefuseExisting
	switch {
	case m.skip:
		existing = tokenfile.SkipExisting
	case m.replace:
		existing = tokenfile.ReplaceExisting
	}
	var done tokenfile.Imported
	err = m.update(ctx, true, batch.Scope(), func(e *tokenfile.Edit) (err error) {
		if done, err = e.Import(batch, existing); err == nil && m.dryRun {
			err = errNothingDone
		}
		return err
	})
	switch {
	case errors.Is(err, tokenfile.ErrExists):
		return fmt.Errorf("%w\nadd --skip-existing to leave the entries that are there as they are, or --replace to put the new ones in their place", err)
	case errors.Is(err, errNothingDone):
		fmt.Fprintln(m.stderr, "dry run: nothing has been changed")
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(m.stdout, "added: %d\nremoved: %d\nskipped: %d\n", done.Added, done.Removed, done.Skipped)
	return err
}

// read reads and checks what is to be imported.
func (m *imports) read(ctx context.Context, file string) (*tokenfile.Batch, error) {
	in, name := io.Reader(os.Stdin), "stdin"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, name = f, file
	}
	found, err := tokenimport.Read(in, tokenimport.Options{Format: tokenimport.Format(m.format), Source: name, Hash: m.hash})
	if err != nil {
		return nil, err
	}
	bar := newBar(m.stderr, "passwords")
	defer bar.end()
	batch, err := tokenfile.NewBatch(ctx, name, found.Drafts, tokenfile.BatchOptions{Rounds: m.rounds, Progress: bar.show})
	if err != nil {
		return nil, err
	}
	bar.end()
	if n := len(batch.Weak); n > 0 {
		fmt.Fprintf(m.stderr, "warning: %s: %d tokens are shorter than 16 bytes, the first in line %d; those that are not random can be guessed\n", name, n, batch.Weak[0])
	}
	if n := found.Superusers; n > 0 {
		fmt.Fprintf(m.stderr, "warning: %s: %d users were superusers, and are bound by rules and topic map here like all others\n", name, n)
	}
	return batch, nil
}

// bar shows on a terminal how far a command has come, and nothing elsewhere.
type bar struct {
	w    io.Writer // nil if it is no terminal
	what string

	mu    sync.Mutex
	shown time.Time
}

func newBar(w io.Writer, what string) *bar {
	if !isTerminal(w) {
		w = nil
	}
	return &bar{w: w, what: what}
}

// show may be called from several goroutines. It draws a few times a second.
func (b *bar) show(done, all int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := time.Now(); b.w != nil && now.Sub(b.shown) > time.Second/10 {
		b.shown = now
		const width = 40
		filled := width * done / max(1, all)
		fmt.Fprintf(b.w, "\r[%s%s] %d of %d %s ", strings.Repeat("#", filled), strings.Repeat(" ", width-filled), done, all, b.what)
	}
}

// end removes the bar.
func (b *bar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.shown.IsZero() {
		_, _ = fmt.Fprint(b.w, "\r\x1b[K")
		b.shown = time.Time{}
	}
}

func (t *tokens) exportCommand() *cobra.Command {
	var format, match string
	c := &cobra.Command{
		Use:   "export --format csv|jsonl",
		Short: "Print the entries in a form that token import reads",
		Long: `Print the entries in a form that token import reads. Tokens and passwords are hashes,
but credentials for the broker are in plain text: protect the output like the file.`,
		Example: `  (umask 077; mqtt-auth-proxy token export --format csv > tokens.csv)`,
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return t.export(c.Context(), format, match) },
	}
	c.Flags().StringVar(&format, "format", "jsonl", "`FORMAT` of the output: csv or jsonl")
	completeChoices(c, "format", "csv", "jsonl")
	c.Flags().StringVar(&match, "match", "", "only ids and devices that the `PATTERN` matches, in which * stands for any text and ? for one character")
	return c
}

func (t *tokens) export(ctx context.Context, format, match string) error {
	out := bufio.NewWriter(t.stdout)
	write, end := func(line []byte) error {
		_, err := fmt.Fprintf(out, "%s\n", line)
		return err
	}, out.Flush
	switch tokenimport.Format(format) {
	case tokenimport.JSONL:
	case tokenimport.CSV:
		table := tokenimport.NewWriter(t.stdout)
		write, end = table.Write, table.Flush
	default:
		return fmt.Errorf("unknown format %q: want csv or jsonl", format)
	}
	store, err := t.store()
	if err != nil {
		return err
	}
	err = store.Each(ctx, matching(match), func(_ tokenfile.Entry, line []byte) error { return write(line) })
	return cmp.Or(err, end())
}
