//! Every bound of the system, each with where its number comes from.
//!
//! "Documented" means the public Pub/Sub API Developer Guide, page "Pub/Sub API Allocations"; a
//! bound without a source is our own and says what it protects. Defaults of settings live here too,
//! so that one page shows what the process may use.

use std::time::Duration;

/// One mebibyte: protocol sizes count in powers of two.
pub const MIB: usize = 1 << 20;

/// Largest encoded `ProducerEvent`, in bytes. Documented as 1 MB.
pub const EVENT_BYTES_MAX: usize = MIB;
/// Largest request, in bytes: the default of gRPC servers, documented as 4 MB.
pub const REQUEST_BYTES_MAX: usize = 4 * MIB;
/// Largest response, in bytes: stock clients refuse 4 MB, so there is a margin of one event.
pub const RESPONSE_BYTES_MAX: usize = 3 * MIB;
/// Events of one publish request. Ours: documented advice is 200; each event is answered, also an
/// empty one, and the answers have to fit into a response.
pub const EVENTS_PER_REQUEST_MAX: usize = 10_000;
/// Characters of an event id. Documented as 36, the length of a UUID.
pub const EVENT_ID_CHARS_MAX: usize = 36;
/// Bytes of all headers of an event, encoded. Ours: headers are copied to every subscriber.
pub const EVENT_HEADERS_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a topic name: an API name has at most 80 characters with its namespace and suffix.
pub const TOPIC_NAME_BYTES_MAX: usize = 160;
/// Bytes of a client name given as `tidegate-client-name`. Ours: it labels metrics.
pub const CLIENT_NAME_BYTES_MAX: usize = 64;
/// Bytes of a time as text. Ours: the longest sensible one has nine digits of a fraction and an offset.
pub const MOMENT_BYTES_MAX: usize = 64;
/// Bytes of a client's trace id that are logged. Ours.
pub const CLIENT_TRACE_ID_BYTES_MAX: usize = 128;
/// Bytes of a call's header list. Ours: a token is about 120 bytes, the rest is margin.
pub const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// Outstanding events a stream may have asked for. Documented.
pub const CREDIT_MAX: u32 = 100;
/// Outstanding events that a stream may have which asked for more. Ours: what is under way is bounded
/// by the size of a response and the client's windows, so this only spares round trips.
pub const CREDIT_MAX_EXTENDED: u32 = 100_000;
/// Silence after which a stream with credit gets an empty response. Documented as at most 270 s.
pub const KEEPALIVE: Duration = Duration::from_secs(60);
/// Longest keepalive that may be configured, as documented.
pub const KEEPALIVE_MAX: Duration = Duration::from_secs(270);
/// How long a stream may stay without credit; the public Java client counts on 70 s.
pub const ZERO_CREDIT_GRACE: Duration = Duration::from_secs(70);
/// How long a publish stream may stay without events. Documented as 1,800 s.
pub const PUBLISH_STREAM_IDLE: Duration = Duration::from_secs(1_800);
/// How long a stream's first message is awaited before a refusal is sent without it.
pub const FIRST_MESSAGE_WAIT: Duration = Duration::from_secs(10);
/// Requests that one Subscribe stream may send in any second. Ours: a client that refills for every
/// event it gets at the credit limit stays below it; a client that loops does not.
pub const FETCH_REQUESTS_PER_SECOND_MAX: u32 = 10_000;
/// Publish requests of one stream that may await their sync. Ours: enough to keep groups full.
pub const PUBLISH_STREAM_PIPELINE_MAX: usize = 64;
/// How long a unary publish waits for room in the queue. Ours: well under the 5 s deadline that the
/// public Go client sets.
pub const PUBLISH_ROOM_WAIT: Duration = Duration::from_secs(2);

/// How long the id of an event is remembered where publishing is idempotent. Ours: a publisher that tries
/// again gives up sooner, and a gateway is back sooner.
pub const IDEMPOTENCE_WINDOW: Duration = Duration::from_secs(600);
/// Longest such time that may be configured. Ours: what is that old is read back from the log at a start.
pub const IDEMPOTENCE_WINDOW_MAX: Duration = WAIT_MAX;
/// Ids that are remembered of one topic. Ours: ten minutes of 400 events a second.
pub const IDEMPOTENCE_IDS_PER_TOPIC_MAX: u32 = 250_000;
/// Ids that are remembered of all topics. Ours: each takes 75 to 140 bytes.
pub const IDEMPOTENCE_IDS_MAX: u32 = 1_000_000;
/// Largest number of ids that may be configured. Ours: some 14 GB.
pub const IDEMPOTENCE_IDS_CEILING: u32 = 100_000_000;
/// Topics whose ids are read back from the log at once. Ours: each keeps a processor busy.
pub const IDEMPOTENCE_REBUILDS_MAX: usize = 2;

/// Interval of the server's HTTP/2 PINGs; with the timeout a dead peer is found within 15 s.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long a PING may stay unanswered.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// RPC streams per HTTP/2 connection. Documented.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1_000;
/// Connections that one listener serves at once. Ours: each costs a socket and some buffers.
pub const CONNECTIONS_MAX: usize = 10_000;
/// TLS handshakes under way at once on one listener. Ours: each costs CPU before anyone is known.
pub const TLS_HANDSHAKES_MAX: usize = 256;
/// How long a TLS handshake may take.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an HTTP client may take to send the head of a request. Ours.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an HTTP client may take to send the body of a request. Ours: a batch of the largest
/// size over a line of 2 Mbit/s takes half of it.
pub const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of request bodies that the HTTP edge holds at once, over all callers. Ours: a body is held
/// until its events are stored; more of them wait a moment for room.
pub const HTTP_BODIES_BYTES: usize = 64 * MIB;
/// Bytes of them that one tenant's requests hold. Ours: a quarter, so that others find room whatever
/// one does.
pub const HTTP_BODIES_TENANT_BYTES: usize = HTTP_BODIES_BYTES / 4;
/// Values in the JSON of one event sent over HTTP: each object, array, text, number, truth value and
/// null. Ours: one takes two bytes of JSON, and up to 600 of memory until the event is encoded.
pub const HTTP_EVENT_VALUES_MAX: usize = 64 * 1024;
/// Bytes of the JSON of one event sent over HTTP. Ours: JSON takes about twice the bytes of its
/// event.
pub const HTTP_EVENT_BODY_BYTES_MAX: usize = 2 * MIB;
/// Bytes of the JSON of several events sent over HTTP. Ours: as much as a gRPC request.
pub const HTTP_BATCH_BODY_BYTES_MAX: usize = REQUEST_BYTES_MAX;
/// Subrequests of a composite request. Documented, in the REST API Developer Guide.
pub const COMPOSITE_REQUESTS_MAX: usize = 25;
/// Characters of the reference id of a subrequest. Ours: it is sent back.
pub const REFERENCE_ID_CHARS_MAX: usize = 80;
/// Records of a collection. Documented, in the REST API Developer Guide.
pub const COLLECTION_RECORDS_MAX: usize = 200;
/// What a client is asked to wait that is answered 503. Ours: as long as its request may have waited.
pub const RETRY_AFTER: Duration = PUBLISH_ROOM_WAIT;
/// Credit of a subscription over HTTP, granted again whenever its events were taken. Ours: what is
/// under way is bounded by a delivery, so this only decides how many small events make one.
pub const SSE_CREDIT: u32 = 1_000;
/// Bytes of text after which events are handed on. Ours: more at once saves nothing.
pub const SSE_CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of JSON that one event's payload becomes. Ours: the text waits in memory until its client
/// takes it, and an event of 1 MB has less unless it is made of long names.
pub const SSE_PAYLOAD_BYTES_MAX: usize = 8 * MIB;
/// Silence after which a stream over HTTP tells its position, unless less is configured. Ours: a
/// common client for browsers, `event-source-polyfill`, connects again after 45 s of silence.
pub const SSE_KEEPALIVE: Duration = Duration::from_secs(30);
/// Silence after which the system asks whether the other side of an HTTP connection is still there.
/// With the two below, a peer that vanished is found within 25 s of silence, before the next
/// keepalive is sent: once data is on its way the system asks no more.
pub const TCP_KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// Time between two such questions.
pub const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Such questions that may stay unanswered.
pub const TCP_KEEPALIVE_PROBES: u32 = 3;
/// Bytes of a certificate or key file. Ours: a chain of ten certificates is about 20 KB.
pub const TLS_FILE_BYTES_MAX: u64 = MIB as u64;
/// HTTP/2 flow-control window of a stream, in bytes: one whole request.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 4 * MIB as u32;
/// HTTP/2 flow-control window of a connection, in bytes.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 8 * MIB as u32;
/// Largest HTTP/2 frame that is accepted, in bytes; 16 KiB frames cost a fifth of the rate.
pub const HTTP2_FRAME_BYTES_MAX: u32 = 64 * 1024;
/// How long a graceful shutdown waits for calls to end.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Bytes of one delivery, unless a single event is larger. Ours: a response waits in memory until its
/// subscriber takes it, so this times the subscribers is what a busy gateway needs; and what fits into
/// a processor's cache is copied faster. Larger ones bring nothing.
pub const DELIVERY_BYTES: usize = 256 * 1024;

/// Events of one block: the index within a block is one byte of a position.
pub const BLOCK_EVENTS_MAX: usize = 256;
/// Bytes of one block's body, unless a single event is larger.
pub const BLOCK_BYTES_MAX: usize = 256 * 1024;
/// Largest position: stock clients put it in an IEEE double.
pub const POSITION_MAX: u64 = (1 << 53) - 1;
/// How long events are kept. Documented as 72 h.
pub const RETENTION: Duration = Duration::from_secs(72 * 3_600);
/// Unsynced bytes in the queue, over all tenants.
pub const APPEND_QUEUE_BYTES: usize = 64 * MIB;
/// Bytes of one group: what a single sync covers. Ours: while the disk is behind, each group is answered
/// and delivered at once, and others wait for the processors meanwhile. Groups four times as large take
/// a twentieth more events, and have subscribers wait twice as long.
pub const GROUP_BYTES_MAX: usize = 2 * MIB;
/// Bytes of recent blocks kept for live subscribers, over all tenants.
pub const TAIL_RING_BYTES: usize = 24 * MIB;
/// Bytes of older blocks kept for subscribers that catch up, over all tenants.
pub const BLOCK_CACHE_BYTES: usize = 48 * MIB;
/// Bytes of open segment footers, over all tenants.
pub const FOOTER_CACHE_BYTES: usize = 32 * MIB;
/// First size of a segment, in bytes; a tenant with few events stays small.
pub const SEGMENT_BYTES_MIN: u64 = MIB as u64;
/// Largest size of a segment, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 256 * MIB as u64;
/// A segment is sealed when its first block is this old, so that retention has something to unlink.
pub const SEGMENT_AGE_MAX: Duration = Duration::from_secs(3_600);
/// Bytes between two entries of a topic's index in a segment: what a reader may read in vain.
pub const INDEX_STEP_BYTES: u64 = 64 * 1024;
/// Bytes of a segment's index at which the segment is sealed, so that a footer stays small beside
/// the cache of footers: many topics with small blocks have an entry for each block.
pub const SEGMENT_INDEX_BYTES_MAX: usize = 4 * MIB;
/// Ranges of lost positions that a log remembers. Ours: one comes with each loss of power in a mode
/// that does not sync, and only the newest ones matter to subscribers.
pub const LOST_RANGES_MAX: usize = 64;
/// Settled losses that a log remembers. Ours: each is a place where a disk failed; a subscriber that
/// starts with the earliest of a topic meets a forgotten one as a hole again.
pub const SETTLED_LOSSES_MAX: usize = 1_000;
/// Block numbers reserved at once in a mode that does not sync each group: so many are lost at most
/// when the machine stops, and so rarely is the reservation written.
pub const POSITIONS_RESERVED: u64 = 1 << 16;
/// Block numbers that a restored log leaves out for each second since the backup was made, so that it
/// never gives out a position that the original may have given out since. Ours: at the pace that is
/// aimed at, 100,000 events a second, with each event in a block of its own, it is more than twice as
/// many as there can be. The numbers last for backups that are four years old, all restores together.
pub const RESTORE_BLOCKS_PER_SECOND: u64 = 1 << 18;
/// Block numbers that a restored log leaves out besides. Ours: a minute of the above, for clocks of
/// two machines that do not agree.
pub const RESTORE_BLOCKS: u64 = 1 << 24;
/// Bytes of the file that says what is in a backup. Ours: a log takes about 150.
pub const BACKUP_MANIFEST_BYTES_MAX: usize = 64 * MIB;
/// Bytes that one read of the log returns at most. Ours: more than any response takes.
pub const READ_BYTES_MAX: usize = 4 * MIB;
/// Reads that go to the disk at once, over all tenants. Ours: each holds a blocking thread.
pub const DISK_READS_MAX: usize = 16;
/// Operating-system threads that commit groups. Ours: while one waits for a sync, another works.
pub const COMMIT_THREADS: usize = 3;
/// How often retention is looked at and old segments are sealed.
pub const LOG_UPKEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Segments that one round of upkeep looks at for bytes that are not wanted any more. Ours: each
/// look reads a footer, and other tenants wait meanwhile.
pub const COMPACTION_SEGMENTS_PER_TICK: usize = 16;
/// A segment is made anew when one part in so many of it is purged: less is not worth the writing,
/// and goes with the whole segment in time.
pub const COMPACTION_SHARE_MIN: u64 = 4;
/// Logs that are opened at once. Ours: each holds a blocking thread.
pub const LOG_OPENINGS_MAX: usize = 4;
/// Logs that nobody uses and that wait to be closed, before the opening of others waits for that.
/// Ours: each has a file open, and closing one takes a sync.
pub const LOGS_CLOSING_MAX: usize = 64;
/// Closed logs that retention looks at each time it is looked at. Ours: a round through 5,000 tenants
/// takes less than an hour, and a look some reads of small files.
pub const CLOSED_LOGS_PER_UPKEEP: usize = 16;
/// Bytes of an audit file, of which two are kept. Ours: an entry takes about 200, and only
/// administrators cause them.
pub const AUDIT_FILE_BYTES_MAX: u64 = 8 * MIB as u64;
/// Events that are erased at once: their positions are held in memory meanwhile. Ours.
pub const ERASED_AT_ONCE_MAX: usize = MIB;
/// Event ids that one request to erase may name. Ours: a request has to fit into a message.
pub const ERASE_IDS_MAX: usize = 10_000;
/// Bytes of a comparison that chooses events to erase. Ours.
pub const COMPARISON_BYTES_MAX: usize = 8 * 1024;
/// Bytes of events that a log in memory keeps for one tenant, unless retention says otherwise.
pub const MEMORY_LOG_BYTES: u64 = 256 * MIB as u64;

/// Bytes of one schema text. Ours: the hosted service's largest event has about 100 fields.
pub const SCHEMA_BYTES_MAX: usize = MIB;
/// Bytes of the name of a type, a field or a symbol in a schema, and of a namespace. Ours: the hosted
/// service's names have at most 80 characters.
pub const SCHEMA_NAME_BYTES_MAX: usize = 255;
/// Custom channels of a tenant of one kind, of platform events or of change events.
///
/// Source: the public Platform Events Developer Guide and Change Data Capture Developer Guide, their
/// chapters on allocations.
pub const CHANNELS_MAX: usize = 100;
/// Members of a channel. Ours: as many event types as the service lets an organization define.
pub const CHANNEL_MEMBERS_MAX: usize = 200;
/// Fields that a member of a channel has enriched.
///
/// Source: the public Change Data Capture Developer Guide, "Enrich Change Events with Extra Fields".
pub const CHANNEL_ENRICHED_FIELDS_MAX: usize = 10;
/// Characters of a channel's label. Ours, as for managed subscriptions.
pub const CHANNEL_LABEL_CHARS_MAX: usize = 80;
/// Bytes of a file of channels. Ours: what it says has to fit into a request too.
pub const CHANNELS_FILE_BYTES_MAX: u64 = MIB as u64;
/// Characters of a filter.
///
/// Source: the public Platform Events Developer Guide, "Filter Your Stream of Platform Events".
pub const FILTER_CHARS_MAX: usize = 131_072;
/// Bytes of a filter in call metadata, as it is encoded there. Ours: half of a call's header list. Longer
/// ones belong on channels and managed subscriptions.
pub const FILTER_METADATA_BYTES_MAX: usize = 8 * 1024;
/// Fields that a filter names. The same source.
pub const FILTER_FIELDS_MAX: usize = 10;
/// Nesting depth of parentheses in a filter. Ours: people write a few.
pub const FILTER_DEPTH_MAX: usize = 64;
/// Nesting depth of a schema and of the values written with it. Ours.
pub const SCHEMA_DEPTH_MAX: usize = 64;
/// Types that are compared to find out whether one schema reads another. Ours: the largest schemas have
/// some 35,000 fields, and each takes a few.
pub const COMPATIBILITY_STEPS_MAX: usize = 1_000_000;
/// Reasons that are listed of those for which one schema does not read another. Ours: more than anyone
/// reads at once.
pub const VIOLATIONS_MAX: usize = 1_000;
/// How long the place of such a reason gets before it begins anew with a record that lies deep. Ours.
pub const VIOLATION_PATH_BYTES_MAX: usize = 512;
/// Such steps for one new version, held against all others. Ours: a few seconds of work.
pub const JUDGEMENT_STEPS_MAX: usize = 50 * COMPATIBILITY_STEPS_MAX;
/// Schemas that are parsed or judged at once, of all tenants. Ours: as many processors as are always there.
pub const JUDGEMENTS_MAX: usize = 2;
/// Versions of one topic's schema. Ours: each stays for ever, and is compared when a level asks for it.
pub const SCHEMA_VERSIONS_MAX: usize = 1_000;
/// Bytes of the texts of one tenant's schemas, which are kept in memory. Ours: 10,000 topics with three
/// versions of 2 KB.
pub const TENANT_SCHEMAS_BYTES_MAX: usize = 64 * MIB;
/// Pairs of a user and a schema that are remembered for one tenant, so that an author is told who would
/// break. Ours: some megabytes; what was used longest ago gives way.
pub const SCHEMA_USES_MAX: usize = 20_000;
/// Files of a directory of schemas that are looked at. Ours: as many as there may be topics.
pub const SCHEMA_FILES_MAX: usize = TOPICS_MAX;
/// How often a directory of schemas is looked at. Ours: soon enough for whoever saves a file and waits.
pub const SCHEMA_FILES_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Reasons that are kept of those for which a schema file is refused. Ours: the rest follows from these.
pub const REASONS_PER_FILE_MAX: usize = 20;
/// Users whose schemas are written down in one write of the metadata. Ours: some 100 KB.
pub const SCHEMA_USERS_PER_WRITE_MAX: usize = 500;
/// How often it is written down who uses which schema. Ours: what a crash takes comes back with the next use.
pub const SCHEMA_USES_FLUSH_INTERVAL: Duration = Duration::from_secs(300);
/// Users who are named beside a refusal as those who would break. Ours: more than anyone calls.
pub const AFFECTED_USERS_MAX: usize = 200;
/// Items of all arrays and maps of one payload, also of zero-width ones. Ours: a count that costs
/// no bytes would otherwise let a short payload run for ever.
pub const PAYLOAD_ITEMS_MAX: u64 = MIB as u64;
/// Bytes of the names that one array of bitmaps of a change event becomes. Ours: each bit may stand for
/// a long name; all names of a large record take a tenth.
pub const CHANGE_FIELD_NAMES_BYTES_MAX: usize = 8 * MIB;
/// Bytes of a Tooling query. Ours: those of clients have about 150.
pub const TOOLING_QUERY_BYTES_MAX: usize = 4 * 1024;
/// Topics of one tenant. Ours: each costs memory while its tenant is open.
pub const TOPICS_MAX: usize = 10_000;
/// Access tokens of one tenant that have not been revoked. Ours.
pub const TOKENS_MAX: usize = 10_000;
/// Characters of a token's name. Ours: it stands in lists and logs.
pub const TOKEN_NAME_CHARS_MAX: usize = 80;
/// Patterns of one token, of each kind. Ours: they are looked through at each lookup of a topic.
pub const TOKEN_PATTERNS_MAX: usize = 100;
/// Managed subscriptions of one tenant. Documented.
pub const MANAGED_SUBSCRIPTIONS_MAX: usize = 200;
/// Characters of a managed subscription's developer name, and of its label. The platform's own bound for
/// such names.
pub const MANAGED_NAME_CHARS_MAX: usize = 80;
/// Slots that the keys of a shared managed subscription are spread over, each with a position of its own.
pub const SHARING_SLOTS: usize = 64;
/// Streams of a shared managed subscription. Ours: one for each slot.
pub const SHARING_STREAMS_MAX: u32 = SHARING_SLOTS as u32;
/// Characters of the key of a shared managed subscription. Ours: the names of two fields, each at most 255.
pub const SHARING_KEY_CHARS_MAX: usize = 511;
/// Events that one stream of a shared managed subscription is sent before it commits any. Ours: which they
/// were has to be known until then, and a client that is so far behind with its commits is told nothing by
/// more events. A thousand of the usual credits.
pub const SHARING_SENT_MAX: usize = 100_000;
/// Bytes of what a client calls a commit. Ours: it is kept until the commit is durable; a UUID has 36.
pub const COMMIT_ID_BYTES_MAX: usize = 256;
/// Commits of one tenant that wait for the writer. Ours: a stream has one under way, so this is only
/// reached by streams that come and go, and by very many that share; others wait for room.
pub const COMMITS_QUEUED_MAX: usize = 1_000;
/// Commits of one write. Ours: every managed subscription with one, and as many deletions; those of streams
/// that share one are joined.
pub const COMMITS_PER_WRITE_MAX: usize = 2 * MANAGED_SUBSCRIPTIONS_MAX;
/// Live tokens that signing in has made for one user of one client, access and refresh tokens each; the
/// oldest gives way. Ours: a client that signs in for every call keeps working and costs no more, and
/// as many processes that sign in once do not push each other out.
pub const SIGN_IN_TOKENS_MAX: usize = 1_000;
/// Live tokens that signing in has made for one tenant; the oldest gives way. Ours: each takes half a
/// kilobyte of memory while its tenant is used.
pub const TENANT_SIGN_IN_TOKENS_MAX: usize = 20_000;
/// Tokens that signing in has made, the newest, that a list shows. Ours: a list is one message.
pub const SIGN_IN_TOKENS_LISTED_MAX: usize = 1_000;
/// How long an access token is good that signing in made: the hosted service's default session time.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(2 * 3_600);
/// How long a refresh token is good. Ours: a month, so that one of a client that is gone goes too.
pub const REFRESH_TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Shortest lifetime of a token. Ours: what is shorter is a mistyped unit.
pub const TOKEN_LIFETIME_MIN: Duration = Duration::from_secs(1);
/// Longest lifetime of a token that expires: ten years. Ours.
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(3_650 * 24 * 3_600);
/// How long a token is kept after it expired or was revoked. Ours: long enough for a list to show why calls fail,
/// and for every stream that it began to have heard that it was revoked.
pub const ENDED_TOKEN_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// A response of the admin service, as its clients take them. Ours: a list of every token that a
/// tenant may have is some 10 MB.
pub const ADMIN_RESPONSE_BYTES_MAX: usize = 32 * MIB;
/// Client applications, and users, of a gateway. Ours: each is kept in memory, at about a kilobyte.
pub const ACCOUNTS_MAX: usize = 10_000;
/// Certificates of one client application. Ours: two while one is replaced, with room.
pub const CLIENT_CERTIFICATES_MAX: usize = 8;
/// Bytes of one certificate in PEM. Ours: one of the largest key that is accepted takes 4 KB.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
/// Characters of a username. Documented as 80.
pub const USERNAME_CHARS_MAX: usize = 80;
/// Characters of a password at least: the hosted service's default policy.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Bytes of a password. Ours: far above what people remember, and cheap to hash.
pub const PASSWORD_BYTES_MAX: usize = 1_024;
/// Passwords that are hashed at once. Ours: each takes 19 MiB while it is.
pub const PASSWORD_HASHES_MAX: usize = 2;
/// How long a sign-in waits for its password to be hashed before it is refused. Ours.
pub const PASSWORD_HASH_WAIT: Duration = Duration::from_secs(5);
/// Failed attempts to sign in under one name before it is locked out. The hosted service's default.
pub const SIGN_IN_FAILURES_MAX: u32 = 10;
/// Failed attempts to sign in from one address before it is locked out. Ours: many may share one.
pub const SIGN_IN_FAILURES_PER_ADDRESS_MAX: u32 = 50;
/// How long failed attempts count, and a lock-out lasts. The hosted service's default.
pub const SIGN_IN_LOCKOUT: Duration = Duration::from_secs(15 * 60);
/// Addresses, and names that no user has, whose failed attempts are remembered. Ours: about a
/// megabyte each.
pub const SIGN_IN_FAILURES_REMEMBERED_MAX: usize = 10_000;
/// One in this many of them is forgotten when there is no room. Ours: they are looked for among all,
/// so it is seldom done.
pub const SIGN_IN_FAILURES_FORGOTTEN_ONE_IN: usize = 10;
/// How long a sign-in waits while as many for its user or address are being checked as may fail yet.
/// Ours: checking a password takes a small part of it.
pub const SIGN_IN_ROOM_WAIT: Duration = Duration::from_secs(5);
/// How far ahead an assertion may expire. Documented as five minutes.
pub const ASSERTION_LIFETIME_MAX: Duration = Duration::from_secs(5 * 60);
/// How far a client's clock may be off. Ours.
pub const ASSERTION_SKEW: Duration = Duration::from_secs(30);
/// Ids of assertions that are remembered until they expire. Ours: those of 180 sign-ins a second.
pub const ASSERTION_IDS_MAX: usize = 60_000;
/// Bytes of a request to sign in. Ours: an assertion with a large key takes 2 KB.
pub const SIGN_IN_BODY_BYTES_MAX: usize = 64 * 1024;
/// How long the body of a request to sign in may take to arrive. Ours.
pub const SIGN_IN_BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Parameters of a form. Ours: the longest that is documented has fewer than ten.
pub const FORM_PARAMETERS_MAX: usize = 64;
/// Nesting depth of a SOAP request. Ours: a login has four levels.
pub const SOAP_DEPTH_MAX: usize = 16;
/// How long a tenant that nobody uses stays open. Ours: calls that come now and then find it open.
pub const TENANT_IDLE: Duration = Duration::from_secs(600);
/// Tenants beyond which those that nobody uses are closed sooner. Ours: each has a file open, and a
/// process may have 1,024 where nothing else was asked for.
pub const TENANTS_OPEN_MAX: u32 = 500;
/// Longest time between two looks for tenants that nobody uses.
pub const TENANT_LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// Tenants whose access tokens are kept in memory. Ours: those of others are read when they are used.
pub const TOKEN_TENANTS_MAX: usize = 1_000;
/// Tenants whose access tokens are read at once. Ours: anybody can have that done who knows the id
/// of a tenant, and it must not keep everyone else from the metadata.
pub const TOKEN_LOADS_MAX: usize = 8;
/// Tenants whose logs are shown in metrics, the first by id.
pub const TENANT_LABELS_MAX: usize = 200;
/// Distinct topic names in metrics; later ones share the label `other`.
pub const TOPIC_LABELS_MAX: usize = 1_000;
/// Managed subscriptions that are shown in metrics, the first by tenant and name.
pub const MANAGED_LABELS_MAX: usize = 1_000;
/// Distinct `tidegate-client-name` values in metrics; later ones share the label `other`.
pub const CLIENT_NAME_LABELS_MAX: usize = 200;

/// Bytes of the file with a certificate authority that a client reads. Ours: the authorities that
/// browsers trust take a quarter of it.
pub const CA_FILE_BYTES_MAX: u64 = MIB as u64;
/// Bytes of a profile. Ours: one is below 1 KiB.
pub const PROFILE_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of one line that `publish` reads, or of the file of a record. Ours: JSON takes a few times
/// the bytes of its event.
pub const PUBLISH_LINE_BYTES_MAX: usize = 8 * MIB;
/// Bytes of a container file's header, which `publish` reads. Ours: a schema and a few words.
pub const CONTAINER_HEADER_BYTES_MAX: usize = 2 * MIB;
/// Bytes of a container file's block. Ours: writers end a block after 16 KiB to a few MiB.
pub const CONTAINER_BLOCK_BYTES_MAX: usize = 16 * MIB;
/// Bytes of a block once it is inflated. Ours: four times as many.
pub const CONTAINER_INFLATED_BYTES_MAX: usize = 64 * MIB;
/// Events of `publish` whose results are not written yet. Ours: more than can be under way.
pub const PUBLISH_RESULTS_PENDING_MAX: usize = 16_000;
/// How long `publish` waits for answers that are under way when it is asked to end. Ours: a sync
/// takes less, and whoever asked is waiting.
pub const PUBLISH_INTERRUPT_WAIT: Duration = Duration::from_secs(5);
/// Events that a publisher puts in one request. Documented as advice.
pub const PUBLISH_BATCH_EVENTS_MAX: usize = 200;
/// Bytes of events that a publisher puts in one request. Documented as advice.
pub const PUBLISH_BATCH_BYTES_MAX: usize = 3 * MIB;
/// Requests of a publisher that await their answers. Ours: as many as the gateway works on at once,
/// so that a slow sync does not keep it waiting.
pub const PUBLISH_REQUESTS_IN_FLIGHT_MAX: usize = PUBLISH_STREAM_PIPELINE_MAX;
/// Bytes of events in requests that await their answers, beyond which no more are sent. Ours: what a
/// publisher holds in memory, but for one request more.
pub const PUBLISH_BYTES_IN_FLIGHT_MAX: usize = 8 * PUBLISH_BATCH_BYTES_MAX;
/// Requests that may await their answers when one that is not full is sent. Ours: a lone event waits
/// for nothing, and events that come while others are under way share a request.
pub const PUBLISH_PARTIAL_IN_FLIGHT_MAX: usize = 2;
/// How long a publisher keeps a stream that carries nothing. Ours: the hosted service once ended
/// them after 70 s; a stream that is given up sooner is never ended under a request.
pub const PUBLISH_STREAM_KEPT: Duration = Duration::from_secs(60);
/// How long a publisher waits for the next answer. Ours: the longest sync that was seen, many times.
pub const PUBLISH_ANSWER_WAIT: Duration = Duration::from_secs(60);
/// How long a publisher tries again unless it is told otherwise. Ours: a gateway restarts in less.
pub const PUBLISH_RETRY_FOR: Duration = Duration::from_secs(60);
/// Credit that `subscribe` asks for: enough that printing never waits for a round trip.
pub const SUBSCRIBE_CREDIT: u32 = 2_000;
/// Events that a subscriber receives and has not handled, unless more or fewer are wanted. Ours: a
/// handler of a millisecond never waits for a round trip of a second.
pub const SUBSCRIBER_IN_FLIGHT: u32 = 1_000;
/// Bytes of such events, behind which a subscriber reads no further. Ours: the largest events, 64 at a
/// time, or a few hundred thousand small ones.
pub const SUBSCRIBER_IN_FLIGHT_BYTES_MAX: usize = 64 * MIB;
/// What a subscriber keeps of handled events because an earlier one is not, as a multiple of the events
/// in flight. Ours: each takes some 50 bytes; one slow event holds the others up only after that many.
pub const SUBSCRIBER_SPAN_FACTOR: usize = 100;
/// Silence after which a subscriber takes its stream for lost: the longest keepalive and some slack.
pub const SUBSCRIBER_SILENCE_MAX: Duration = KEEPALIVE_MAX.saturating_add(Duration::from_secs(30));
/// Bytes of a file of checkpoints. Ours: a topic takes some 150.
pub const CHECKPOINT_FILE_BYTES_MAX: u64 = MIB as u64;
/// Ids of handled events that a subscription remembers, unless told otherwise. Ours: each takes some
/// 150 bytes of disk, so this is 150 MB.
pub const DEDUPE_IDS_MAX: u64 = 1_000_000;
/// Dead letters in one store. Ours: who has as many has stopped looking at them.
pub const DEAD_LETTERS_MAX: usize = 10_000;
/// Bytes of the reason why an event was given up. Ours: the end of what a program had to say.
pub const DEAD_LETTER_CAUSE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a dead letter's file. Ours: the largest event in base64, with what is told about it.
pub const DEAD_LETTER_FILE_BYTES_MAX: u64 = 4 * MIB as u64;
/// Schemas that one client keeps; it asks again for those it let go. Ours.
pub const CLIENT_SCHEMAS_MAX: usize = 1_000;

/// Bytes of a configuration file. Ours: every setting with its comment takes about 6 KB.
pub const CONFIG_FILE_BYTES_MAX: u64 = MIB as u64;
/// Shortest keepalive that may be configured. Ours: each one wakes every idle subscription.
pub const KEEPALIVE_MIN: Duration = Duration::from_millis(100);
/// Shortest time a peer may be given before its stream is ended. Ours: less than a round trip over a
/// slow network would end streams that are well.
pub const PATIENCE_MIN: Duration = Duration::from_millis(100);
/// Longest wait, grace or interval that may be configured, unless it has a bound of its own. Ours:
/// what takes longer is a mistyped unit.
pub const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Shortest retention that may be configured. Ours: what is shorter is a mistyped unit.
pub const RETENTION_MIN: Duration = Duration::from_secs(1);
/// Longest retention that may be configured: ten years. Ours.
pub const RETENTION_MAX: Duration = Duration::from_secs(3_650 * 24 * 3_600);
/// Time between two syncs where an acknowledgement does not wait for one. Ours: what a loss of
/// power may take, at a cost of ten syncs a second.
pub const SYNC_INTERVAL: Duration = Duration::from_millis(100);
/// Longest interval between syncs that may be configured. Ours.
pub const SYNC_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Largest request size that may be configured. Ours: each request is held in memory as a whole.
pub const REQUEST_BYTES_CEILING: usize = 64 * MIB;
/// Smallest queue, ring or cache that may be configured. Ours: one tenant has half of the queue,
/// which has to hold the largest event with its block.
pub const MEMORY_BYTES_MIN: usize = 4 * MIB;
/// Largest queue, ring or cache that may be configured. Ours.
pub const MEMORY_BYTES_CEILING: usize = 64 * 1_024 * MIB;
/// Largest segment size that may be configured. Ours: retention frees no less at once.
pub const SEGMENT_BYTES_CEILING: u64 = 1_024 * MIB as u64;
/// Largest retention in bytes that may be configured: a pebibyte, more than a disk has.
pub const RETENTION_BYTES_CEILING: u64 = 1 << 50;
/// Requests per second, or streams, beyond which a configured limit would be none. Ours.
pub const COUNT_CEILING: u32 = 1_000_000;

/// Metadata files of tenants that are open at once. Ours: each has a file descriptor and half a
/// megabyte of the engine's, and what is read often is kept decoded above.
pub const METADATA_TENANTS_OPEN_MAX: usize = 16;
/// Metadata calls under way at once. Ours: each holds a blocking thread, and one that opens a file
/// takes some megabytes while it does, which the allocator may keep for that thread.
pub const METADATA_CALLS_MAX: usize = 4;
/// Bytes of pages that each metadata file keeps in memory. Ours: metadata is small, and what is read
/// often is kept decoded above.
pub const METADATA_CACHE_BYTES: usize = MIB;
