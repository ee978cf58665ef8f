import type { SandboxLimits } from "./sandbox-limits.ts";

/** A file or folder of this machine that a sandbox sees, read-only. */
export type ReadOnlyBind = { readonly from: string; readonly to: string };

/** `none` is a network of its own with nothing in it; `unfiltered` is this machine's, unfiltered. */
export type SandboxNetwork = "none" | "unfiltered";

/** The only place a sandboxed program can write to; it lies in memory and ends with the sandbox. */
export const WORKING_FOLDER = "/scratch";

/** Where Node and the shell lie inside; a folder of our own, so that an operator may bind /usr/bin. */
export const RUNTIME_FOLDER = "/runtime";
export const INNER_SHELL = `${RUNTIME_FOLDER}/sh`;

/** Who the program is inside; outside it is whoever runs us, or a user id of its own where that is root. */
const INNER_ID = "1000";
const SHARED_MEMORY_BYTES = 16 * 1024 * 1024;

/** What programs cannot do without and what says nothing about us. */
const FIXED_ENVIRONMENT = {
  PATH: `${RUNTIME_FOLDER}:/usr/bin:/bin`,
  HOME: WORKING_FOLDER,
  TMPDIR: WORKING_FOLDER,
  LANG: "C.UTF-8",
};

/** Libraries; where /lib is a link to /usr/lib, binding both gives the same. Nothing that runs but the loader. */
const LIBRARIES = ["/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64", "/etc/ld.so.cache"];

/** What a program needs to find and trust hosts, for `network: unfiltered` alone. */
const NETWORK_FILES = [
  "/etc/resolv.conf",
  "/etc/hosts",
  "/etc/nsswitch.conf",
  "/etc/ssl/certs",
  "/usr/share/ca-certificates",
  "/etc/pki/tls/certs",
  "/etc/pki/ca-trust/extracted",
];

export type SandboxLayout = {
  readonly readOnly: readonly ReadOnlyBind[];
  readonly environment: Readonly<Record<string, string>>;
  readonly network: SandboxNetwork;
  readonly scratchBytes: number;
  /** Where bubblewrap writes the id of the sandbox's first process, and where it reads the seccomp program. */
  readonly infoFd: number;
  readonly seccompFd: number | undefined;
};

const bindIfThere = (path: string): readonly string[] => ["--ro-bind-try", path, path];

/**
 * The options of bubblewrap (bwrap(1), 0.8 or newer) for one program: every namespace new, no capability, no file of this
 * machine but libraries and what is named, and nothing writable but a working folder of limited size. It is a list to be
 * handed over by `--args`, so that no value of the environment shows in the process list.
 */
export const sandboxArguments = (layout: SandboxLayout): readonly string[] => {
  const hasNetwork = layout.network === "unfiltered";
  const environment = Object.entries({ ...FIXED_ENVIRONMENT, ...layout.environment });
  return [
    ["--unshare-all"],
    ["--unshare-user"],
    ["--unshare-cgroup"],
    hasNetwork ? ["--share-net"] : [],
    ["--disable-userns"],
    ["--uid", INNER_ID, "--gid", INNER_ID, "--hostname", "sandbox"],
    ["--die-with-parent"],
    ["--new-session"],
    ["--clearenv"],
    ...environment.map(([name, value]) => ["--setenv", name, value]),
    ...LIBRARIES.map(bindIfThere),
    ...(hasNetwork ? NETWORK_FILES : []).map(bindIfThere),
    ...layout.readOnly.map(({ from, to }) => ["--ro-bind", from, to]),
    ["--proc", "/proc"],
    ["--dev", "/dev"],
    ["--size", String(SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"],
    ["--remount-ro", "/dev"],
    ["--perms", "0700", "--size", String(layout.scratchBytes), "--tmpfs", WORKING_FOLDER],
    ["--remount-ro", "/"],
    ["--chdir", WORKING_FOLDER],
    ["--info-fd", String(layout.infoFd)],
    layout.seccompFd === undefined ? [] : ["--seccomp", String(layout.seccompFd)],
  ].flat();
};

/** What the script inside says when the sandbox is made, and what we answer. */
export const READY = "ready\n";
export const GO = "go\n";

/**
 * Runs first inside. It says that it is there and waits for one line, which we send when the sandbox is known to die with us, and gives up at the end
 * of input: so nothing runs that nobody holds. Then it makes itself the first victim of the kernel when memory runs out,
 * sets the limits that belong to a process (a limit that cannot be set ends it), and becomes the program.
 */
const LIMITS_SCRIPT = [
  "echo ready",
  'IFS= read -r go && [ "$go" = go ] || exit 125',
  "echo 1000 2>/dev/null >/proc/self/oom_score_adj",
  '{ [ "$1" = - ] || ulimit -u "$1" 2>/dev/null || ulimit -p "$1"; } && ulimit -f "$2" && ulimit -t "$3" && ulimit -n "$4" && ulimit -d "$5" && ulimit -c 0 || exit 126',
  "shift 5",
  "unset PWD OLDPWD",
  'exec "$@"',
].join("\n");

/** Stacks and heaps are reserved before they are used; a process that asks for more is refused before the watcher looks. */
const DATA_HEADROOM_BYTES = 1024 * 1024 * 1024;

/** The kernel's own count a process comes after the watcher's, who can say why. */
const CPU_HEADROOM_SECONDS = 2;

/** `sh` and its arguments, up to the program's own command line. `label` shows in the process list. */
export const limitedCommand = (
  limits: SandboxLimits,
  options: { readonly shell: string; readonly label: string; readonly countProcesses: boolean },
): readonly string[] => [
  options.shell,
  "-c",
  LIMITS_SCRIPT,
  options.label,
  options.countProcesses ? String(limits.processes) : "-",
  String(Math.ceil(limits.fileBytes / 512)),
  String(limits.cpuSeconds + CPU_HEADROOM_SECONDS),
  String(limits.openFiles),
  String(Math.ceil((limits.memoryBytes + DATA_HEADROOM_BYTES) / 1024)),
];
