// Package integration tests the built program against real brokers and clients, and
// holds the repository to rules that no single package can see.
//
// Most stories need tools that do not come with Go (Mosquitto and its clients, Node,
// HAProxy, nginx, Chromium, PostgreSQL). They have the build tag integration:
//
//	make integration
//
// Where CI=true is set, a missing tool fails a story; elsewhere the story is skipped and
// names the tool. Each story starts the program as its users do, on ports and files of
// its own, so that stories can run in parallel. When it ends, everything that the program
// has printed, at the level debug, is searched for every secret that was used.
//
// The flags -proxy.binary and -proxy.race choose another program, or one with the race
// detector. TestBrowser and TestPage keep pictures of their pages on request:
//
//	go test -tags integration ./integration -proxy.binary /usr/bin/mqtt-auth-proxy
//	go test -tags integration ./integration -proxy.race
//	go test -tags integration -run TestBrowser ./integration -artifacts -outputdir DIR
//
// # The stories
//
// The first start and the daily work of an operator:
//
//	first_start            the program with nothing configured, and a port that is in use
//	commands               the commands token, check and version, and mistakes on the command line
//	token_file             edits of the token file of every kind, and a mistake in one
//	password_file          the files of mosquitto_passwd and htpasswd, and guessed passwords
//	growing                one token through all steps of the manual's page about growing
//	migration              credentials of other programs, as the manual's page about them says
//	database               tokens and passwords in PostgreSQL, also through PgBouncer, and its outages
//	database_notify        tokens withdrawn in PostgreSQL end their sessions on all replicas
//	own_tables             the token commands on PostgreSQL, and a server that takes over from another
//	withdrawal             revoked, disabled, rotated and expired tokens end their sessions
//	mass_withdrawal        a token file that shrinks, and one that is half written
//	denial                 JWTs that are revoked before they expire
//	client_certificate     client certificates that are withdrawn
//	reload                 configuration, listeners and certificates that change under load
//	link_swap              a symbolic link above all files is replaced, inside the sandbox
//	admin                  what each client may read on the admin side, and what the metrics count
//	page                   an operator's work in a browser, hostile names, and pages of attackers
//	telemetry              the store has one owner and keeps every message
//	telemetry_postgres     PostgreSQL as the store: outages, kills, two proxies, another server
//
// Devices:
//
//	round_trip             every QoS, retained messages, wills and offline queues
//	clients                the clients Paho and mqtt.js
//	reader                 a program that takes what devices send, with Paho and mosquitto_sub
//	conversations          what devices of ThingsBoard and the bundled broker send, as the manual says
//	browser                a web page in Chromium
//	websocket              MQTT over WebSocket, directly and behind nginx
//	identity               client identifiers: shared, assigned, and tokens in their place
//	renewal                tokens that devices renew by AUTH without reconnecting
//	changed_rules          topic rules that change while a device is connected
//	topic_map              topics that are mapped to a part of the broker for each device
//	topic_map_clients      the same with Paho and mqtt.js, and a map that changes
//	limits                 packets, messages, rates and sessions over the limits of a device
//	limits_edited          limits that change while a device is held to them
//	refusal                what a refused device sees, in every version
//
// Token services:
//
//	token_service          every answer that a service can give, and its outage
//	token_service_rules    topic rules, rechecks, introspection, services behind a token file
//	token_service_faults   faults that concern one device do not affect others
//	token_service_fleet    thousands of devices, one token for many, and guessed tokens
//	token_service_example  the example service and the configurations of its manual
//	token_service_readme   the example in the manual is the one that is run
//	token_issuer           JWTs: the rotation of keys, and every claim
//
// Brokers and what is in front of the proxy:
//
//	existing_broker        Mosquitto: credentials, refusals, outages, versions
//	several_brokers        brokers that die, freeze or never answer
//	drained_broker         a broker that is taken out of use and put back
//	replicas               several proxies that share what is withdrawn
//	replicas_servers       brokers and a database that fail under the bus of several proxies
//	load_balancer          the PROXY protocol from HAProxy and to the broker
//
// Attacks and overload:
//
//	hostile                malformed and malicious packets, one by one and a thousand at once
//	descriptors            floods of silent connections, and no descriptors left
//	greedy_device          one device that fills the bundled broker
//	stalled_subscriber     a subscriber that stops reading
//	fairness               quiet sessions next to one that moves data at full speed
//	storm                  a fleet that reconnects over TLS
//	low_disk               no room for telemetry
//	sandbox                what a running program may still read
//	log_reader             a log without a reader, or that cannot be written
//
// The end of the process:
//
//	shutdown               what was acknowledged is kept, and devices learn why they are cut off
//	drain                  a thousand devices are disconnected one after the other
//	crash                  what was acknowledged is kept when the process is killed
//	restart                restarts under systemd and with two processes lose no connection
//	notify                 the reports to systemd
//	events                 a service that was down gets the events of devices
//
// The repository:
//
//	imports                which package may import which
//	keys                   each key of the configuration has an effect
//	links                  documents link to what exists, and name every package
//	make                   make integration runs every package that has such tests
//	skip                   no test is skipped where CI=true
//	list                   this list is complete
//	bench                  the tool in the folder bench produces its table
//
// What stories share is in package harness. Package recipes tests the recipes for
// operators, and package soak can run for hours.
package integration
