//go:build integration && linux

package integration

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestMigrationFromMosquitto: the password file and the rules of Mosquitto are used where they
// are, and the file can be imported.
func TestMigrationFromMosquitto(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users := passwords{t, filepath.Join(dir, "passwd"), map[string]string{}}
	tool := harness.Need(t, "mosquitto_passwd")
	users.add("pump-7", tool, "-c", "-b")
	users.add("pump-8", tool, "-H", "sha512", "-b")
	harness.WriteFile(t, filepath.Join(dir, "acl"), "pattern readwrite from/%u\nuser valve-2\ntopic write new\nuser watcher\ntopic read #\n")
	g := follow(t, "## Mosquitto", "/etc/mosquitto", dir)
	g.write("password.txt", users.of["pump-7"]+"\n")
	m, upstream := g.mosquitto()
	p := g.proxy(upstream)
	devices := map[old]string{}
	for user, password := range users.of {
		devices[old{user, password}.secret(p)] = "from/" + user
	}
	g.run(0)
	token := p.Token("valve-2")
	p.Start()
	watch := func() *harness.Subscriber {
		return harness.Subscribe(t, "-h", "127.0.0.1", "-p", harness.Port(m.Addr), "-u", "watcher", "-t", "#")
	}
	checkTopics(t, p, token, watch(), devices)

	g.run(1)
	p.Stop()
	text := harness.ReadFile(t, p.Config)
	source := text[strings.Index(text, "    - passwd"):strings.Index(text, "    - file")]
	harness.WriteFile(t, p.Config, strings.Replace(text, source, "", 1))
	p.Start()
	for d, topic := range devices {
		if status := d.publish(t, p, topic); status != 0 {
			t.Errorf("%s after the import: status %d", d.user, status)
		}
	}
}

// TestMigrationFromFilesOfGoAuth: the password file of mosquitto-go-auth is read where it is, and
// Mosquitto reads the file with the rules. The hash is one of mosquitto-go-auth's own tests.
func TestMigrationFromFilesOfGoAuth(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	second := old{"name with whitespace@and/other.character", rand.Text()}
	harness.WriteFile(t, filepath.Join(dir, "passwords"), "test1:PBKDF2$sha512$100000$2WQHK5rjNN+oOT+TZAsWAw==$TDf4Y6J+9BdnjucFQ0ZUWlTwzncTjOOeE00W4Qm8lfPQyPCZACCjgfdK353jdGFwJjAf6vPAYaba9+z4GWK7Gg==\n"+
		second.user+":"+goAuthHash(t, second.password)+"\n")
	harness.WriteFile(t, filepath.Join(dir, "acls"), "user test1\ntopic write test/topic/1\ntopic read test/topic/2\n\nuser "+second.user+"\ntopic readwrite readwrite/topic\n\nuser valve-2\ntopic write new\n\nuser watcher\ntopic read #\n\npattern read test/%u\npattern read test/%c\n")
	g := follow(t, "### Its files", "/etc/mosquitto/auth", dir)
	g.write("password.txt", "test1\n")
	m, upstream := g.mosquitto()
	p := g.proxy(upstream)
	g.run(0)
	token := p.Token("valve-2")
	p.Start()
	checkTopics(t, p, token, harness.Subscribe(t, "-h", "127.0.0.1", "-p", harness.Port(m.Addr), "-u", "watcher", "-t", "#"),
		map[old]string{{"test1", "test1"}: "test/topic/1", second.secret(p): "readwrite/topic"})
}

// goAuthHash returns a hash as pw of mosquitto-go-auth writes it.
func goAuthHash(t *testing.T, password string) string {
	t.Helper()
	salt := []byte(rand.Text())[:16]
	key, err := pbkdf2.Key(sha512.New, password, salt, 1000, 64)
	if err != nil {
		t.Fatal(err)
	}
	return "PBKDF2$sha512$1000$" + base64.StdEncoding.EncodeToString(salt) + "$" + base64.StdEncoding.EncodeToString(key)
}

// TestMigrationFromTablesOfGoAuth: the tables of mosquitto-go-auth are read unchanged. Their users
// connect with their passwords and have the rights in the table.
func TestMigrationFromTablesOfGoAuth(t *testing.T) {
	t.Parallel()
	server := harness.StartPostgres(t)
	g := follow(t, "### Its tables in PostgreSQL")
	g.write("dsn", server.Database("goauth")+"\n")
	pump, boss := old{"pump-7", rand.Text()}, old{"boss", rand.Text()}
	server.SQL("goauth", fmt.Sprintf(`
		CREATE TABLE test_user (id bigserial primary key, username character varying (100) not null, password_hash character varying (200) not null, is_admin boolean not null);
		CREATE TABLE test_acl (id bigserial primary key, test_user_id bigint not null references test_user on delete cascade, topic character varying (200) not null, rw int not null);
		INSERT INTO test_user (username, password_hash, is_admin) VALUES ('%s', '%s', false), ('%s', '%s', true);
		INSERT INTO test_acl (test_user_id, topic, rw) VALUES (1, 'from/%%u', 2), (1, 'to/%%u/#', 4)`,
		pump.user, goAuthHash(t, pump.password), boss.user, goAuthHash(t, boss.password)))
	server.SQL("goauth", g.block("sql", 0))
	m, upstream := g.behind()
	p := g.proxy(upstream)
	p.AddSecret(server.Password)
	g.write("password.txt", pump.secret(p).password+"\n")
	g.run(0)
	token := p.Token("valve-2")
	p.Start()

	behind := harness.Subscribe(t, append(m.ClientArgs(), "-t", "#")...)
	if status := boss.secret(p).publish(t, p, "anywhere"); status != 0 {
		t.Errorf("the administrator: status %d", status)
	}
	if got := behind.Messages(1)[0].Topic; got != "anywhere" {
		t.Errorf("a message in %s", got)
	}
	behind.Kill()
	checkTopics(t, p, token, harness.Subscribe(t, append(m.ClientArgs(), "-t", "#")...), map[old]string{pump: "from/pump-7"})
	if status := (old{"pump-8", pump.password}).publish(t, p, "a"); status != 5 {
		t.Errorf("an unknown user: status %d", status)
	}
	p.AwaitLog("an unknown user", func(l harness.LogLine) bool { return l.String("reason") == "unknown_token" })
}

// TestMigrationFromEMQX: the line of the page writes the users of EMQX's table, which has the form
// of EMQX 5, and they connect with their passwords. A second import ends no session.
func TestMigrationFromEMQX(t *testing.T) {
	t.Parallel()
	erl := harness.Need(t, "erl")
	dir := t.TempDir()
	g := follow(t, "## EMQX", "/var/lib/emqx", dir)
	pump := old{"pump-7", rand.Text()}
	harness.WriteFile(t, g.path("bin/emqx"), fmt.Sprintf(`#!/bin/sh
[ "$1" = eval ] || exit 2
exec %s -noshell -eval 'Hash = fun(Password, Salt) -> string:lowercase(binary:encode_hex(crypto:hash(sha256, [Password, Salt]))) end,
	ets:new(emqx_authn_mnesia, [named_table, ordered_set, {keypos, 2}]),
	ets:insert(emqx_authn_mnesia, [{user_info, {<<"mqtt:global">>, <<"%s">>}, Hash(<<"%s">>, <<"ab12">>), <<"ab12">>, false},
		{user_info, {<<"mqtt:global">>, <<"boss">>}, Hash(<<"x">>, <<"cd34">>), <<"cd34">>, true}]),
	ok = '"${2%%.}"', halt().'
`, erl, pump.user, pump.password))
	if err := os.Chmod(g.path("bin/emqx"), 0o700); err != nil {
		t.Fatal(err)
	}
	m, upstream := g.behind()
	p := g.proxy(upstream)
	g.write("password.txt", pump.secret(p).password)
	g.run(0)
	if out := g.run(1); !strings.Contains(out, "added: 2\n") {
		t.Error(out)
	}
	token := p.Token("valve-2")
	p.Start()
	behind := harness.Subscribe(t, append(m.ClientArgs(), "-t", "from/#", "-t", "new")...)
	connect := packetstest.Identity(4, "live", pump.user)
	connect.HasPassword, connect.Password = true, pump.password
	live := packetstest.Connect(t, packetstest.Dial(t, p.Plain), connect)
	if out := g.shell(strings.Replace(g.block("sh", 1), "--format", "--replace --format", 1)); !strings.Contains(out, "removed: 2\n") {
		t.Error(out)
	}
	checkTopics(t, p, token, behind, map[old]string{pump: "from/pump-7"})
	if err := live.Publish("a", "b"); err != nil {
		t.Errorf("the session during the second import: %v", err)
	}
}

// thingsBoardDevices are devices with credentials of every kind, as ThingsBoard has them.
func thingsBoardDevices(token string, basic old) (rows []map[string]string) {
	certificate, _ := harness.ServerCertificate(7)
	value, _ := json.Marshal(map[string]any{"clientId": nil, "userName": basic.user, "password": basic.password})
	return []map[string]string{
		{"name": `Thermostat "A", hall 2`, "credentialsType": "ACCESS_TOKEN", "credentialsId": token, "additionalInfo": `{"gateway": true, "description": ""}`},
		{"name": "Gauge", "credentialsType": "MQTT_BASIC", "credentialsId": "digest", "credentialsValue": string(value)},
		{"name": "Camera", "credentialsType": "X509_CERTIFICATE", "credentialsId": "fingerprint", "credentialsValue": certificate},
	}
}

// TestMigrationFromThingsBoard: devices that ThingsBoard knew, by its database or its REST API,
// send telemetry to the bundled broker with their access tokens and passwords.
func TestMigrationFromThingsBoard(t *testing.T) {
	t.Parallel()
	for name, export := range map[string]func(g *guide, rows []map[string]string){
		"database": exportFromDatabase, "REST API": exportFromAPI,
	} {
		t.Run(name, func(t *testing.T) {
			token, basic := rand.Text()[:20], old{"gauge-user", rand.Text()}
			g := follow(t, "## ThingsBoard")
			export(g, thingsBoardDevices(token, basic))
			p := g.proxy("")
			p.AddSecret(token)
			g.write("access-token.txt", token+"\n")
			if out := g.run(2); !strings.Contains(out, "added: 3\n") || !strings.Contains(out, "subject:  \"Thermostat") {
				t.Error(out)
			}
			p.Start()
			harness.Publish(t, append(p.ClientArgs(token), "-q", "1", "-t", "v1/devices/me/telemetry", "-m", `{"t":7}`)...)
			harness.Publish(t, append(p.ClientArgs(basic.user), "-P", basic.secret(p).password, "-q", "1", "-t", "v1/devices/me/telemetry", "-m", `{"t":8}`)...)
			harness.Publish(t, append(p.ClientArgs(token), "-q", "1", "-t", "v1/gateway/telemetry", "-m", `{"room 2":[{"t":9}]}`)...)
			for device, want := range map[string]string{"Thermostat%20%22A%22,%20hall%202": `"value":7`, "Gauge": `"value":8`, "Thermostat%20%22A%22,%20hall%202%2Froom%202": `"value":9`} {
				if status, body := p.Get("/api/plugins/telemetry/DEVICE/" + device + "/values/timeseries?keys=t&useStrictDataTypes=true"); status != http.StatusOK || !strings.Contains(body, want) {
					t.Errorf("%s: %d %s", device, status, body)
				}
			}
			g.used["sh0"], g.used["sh1"] = true, true // each in one of both ways
		})
	}
}

// exportFromDatabase has the rows in tables with the columns of ThingsBoard that matter, with a
// device of another protocol besides.
func exportFromDatabase(g *guide, rows []map[string]string) {
	server := harness.StartPostgres(g.t)
	server.Database("thingsboard")
	server.SQL("thingsboard", `CREATE TABLE device (id uuid PRIMARY KEY, tenant_id uuid, name varchar(255), additional_info varchar);
		CREATE TABLE device_credentials (id uuid PRIMARY KEY, credentials_id varchar, credentials_type varchar(255), credentials_value varchar, device_id uuid UNIQUE)`)
	text, _ := json.Marshal(append(rows, map[string]string{"name": "Meter", "credentialsType": "LWM2M_CREDENTIALS", "credentialsId": "endpoint"}))
	server.SQL("thingsboard", `WITH r AS (SELECT gen_random_uuid() AS id, e FROM jsonb_array_elements($json$`+string(text)+`$json$) e),
		d AS (INSERT INTO device SELECT id, NULL, e->>'name', e->>'additionalInfo' FROM r)
		INSERT INTO device_credentials SELECT gen_random_uuid(), e->>'credentialsId', e->>'credentialsType', e->>'credentialsValue', id FROM r`)
	harness.Need(g.t, "psql")
	g.env = append(g.env, "PGHOST="+server.Dir, "PGPORT="+harness.Port(server.Addr), "PGUSER=postgres")
	g.run(0)
}

// exportFromAPI answers like ThingsBoard's REST API, with pages of one device.
func exportFromAPI(g *guide, rows []map[string]string) {
	harness.Need(g.t, "jq")
	harness.Need(g.t, "curl")
	answer := func(w http.ResponseWriter, r *http.Request, v any) {
		if r.URL.Path != "/api/auth/login" && r.Header.Get("X-Authorization") != "Bearer jwt" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/auth/login", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, map[string]string{"token": "jwt", "refreshToken": "refresh"})
	})
	mux.HandleFunc("GET /api/tenant/devices", func(w http.ResponseWriter, r *http.Request) {
		var page int
		_, _ = fmt.Sscan(r.URL.Query().Get("page"), &page)
		device := map[string]any{"id": map[string]string{"entityType": "DEVICE", "id": fmt.Sprint(page)}, "name": rows[page]["name"]}
		if info := rows[page]["additionalInfo"]; info != "" {
			device["additionalInfo"] = json.RawMessage(info)
		}
		answer(w, r, map[string]any{"data": []any{device}, "totalPages": len(rows), "totalElements": len(rows), "hasNext": page+1 < len(rows)})
	})
	mux.HandleFunc("GET /api/device/{id}/credentials", func(w http.ResponseWriter, r *http.Request) {
		var id int
		_, _ = fmt.Sscan(r.PathValue("id"), &id)
		answer(w, r, rows[id])
	})
	server := httptest.NewServer(mux)
	g.t.Cleanup(server.Close)
	g.env = append(g.env, "TB_URL="+server.URL)
	g.write("login.json", `{"username":"tenant@example.com","password":"tenant"}`)
	g.run(1)
}

// TestMigrationFromHiveMQ: the users of the example in the extension's manual connect with their
// passwords, and may do what their roles permit.
func TestMigrationFromHiveMQ(t *testing.T) {
	t.Parallel()
	g := follow(t, "## HiveMQ")
	g.write("credentials.xml", `<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<file-rbac>
    <users>
        <user>
            <name>user1</name>
            <!-- password hash for "pass1" -->
            <password>WFNQUVB0UkxjM04xa0hSR1BQNGhuOTJKVzdlbXA4bjk=:100:FY12nwpUEbBK9EKQ/Aw/rQKSoA7jXsC0HKELwU2mLCVU39bJVK0zf4NemuFeDOHPO4BW1nOjxi6NporkC6rUog==</password>
            <roles>
                <id>role1</id>
            </roles>
        </user>
        <user>
            <name>admin-user</name>
            <!-- password hash for "admin-password" -->
            <password>Vjc1a0lxQ3Nvb0ljNFVHNE9WRnM3RG1IZmdNUFcwVGY=:100:PL2FLqfpdhONG7qXjAMmdVn4wlMiXnypdXiFW09zqorFhKgoiixFQw2EVJJfE9Zn79q45V7Xpc6JeKLp0ntmYA==</password>
            <roles>
                <id>superuser</id>
            </roles>
        </user>
    </users>
    <roles>
        <role>
            <id>role1</id>
            <permissions>
                <permission>
                    <topic>data/${{username}}/#</topic>
                </permission>
                <permission>
                    <topic>incoming/${{username}}/actions</topic>
                    <activity>SUBSCRIBE</activity>
                </permission>
            </permissions>
        </role>
        <role>
            <id>superuser</id>
            <permissions>
                <permission>
                    <topic>#</topic>
                </permission>
            </permissions>
        </role>
    </roles>
</file-rbac>
`)
	m, upstream := g.behind()
	p := g.proxy(upstream)
	g.write("password.txt", "pass1")
	if out := g.run(0); !strings.Contains(out, "added: 2\n") {
		t.Error(out)
	}
	token := p.Token("valve-2")
	p.Start()
	boss := harness.Subscribe(t, append(p.ClientArgs("admin-user"), "-P", "admin-password", "-t", "#")...)
	checkTopics(t, p, token, harness.Subscribe(t, append(m.ClientArgs(), "-t", "#")...), map[old]string{{"user1", "pass1"}: "data/user1/x"})
	if got := boss.Messages(1)[0].Topic; got != "data/user1/x" {
		t.Errorf("the superuser got a message in %s", got)
	}
	connect := packetstest.Identity(5, "live", "user1")
	connect.HasPassword, connect.Password = true, "pass1"
	c := packetstest.Connect(t, packetstest.Dial(t, p.Plain), connect)
	for filter, want := range map[string]packets.ReasonCode{"incoming/user1/actions": 0, "incoming/user2/actions": packets.NotAuthorized} {
		if got := c.Subscribe(filter, 0); got != want {
			t.Errorf("subscribe %s: %v", filter, got)
		}
	}
}
