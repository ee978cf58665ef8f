/** A line of classic BPF: operation, jump if true, jump if false, operand. */
type Line = readonly [code: number, jumpTrue: number, jumpFalse: number, operand: number];

const LOAD_WORD = 0x20;
const JUMP_EQUAL = 0x15;
const JUMP_AT_LEAST = 0x35;
const JUMP_ANY_BIT = 0x45;
const RETURN = 0x06;

const ALLOW = 0x7fff0000;
const KILL = 0x80000000;
const failWith = (errno: number): number => 0x00050000 + errno;
const EPERM = failWith(1);
const ENOSYS = failWith(38);
const EAFNOSUPPORT = failWith(97);

/** Offsets in the kernel's `struct seccomp_data`; both architectures are little-endian, so an argument's low half is first. */
const AT_SYSCALL = 0;
const AT_ARCHITECTURE = 4;
const AT_FIRST_ARGUMENT = 16;

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWTIME. */
const NEW_NAMESPACES = 0x7e020080;

/** Unix, IPv4, IPv6, and netlink (which names the interfaces). Others, such as vsock, know no network namespace. */
const SOCKET_FAMILIES = [1, 2, 10, 16];

type Architecture = {
  readonly audit: number;
  /** x64 has a second set of numbers for 32-bit pointers, from here on. */
  readonly foreignFrom?: number;
  readonly clone: number;
  readonly socket: number;
  /** What would let a program leave its namespaces, look into others, or reach seldom used parts of the kernel. */
  readonly forbidden: readonly number[];
  /** What programs do without when the kernel seems not to know it. */
  readonly absent: readonly number[];
};

/** Numbers that are the same on both, from the time when the kernel stopped giving each architecture its own. */
const COMMON_FORBIDDEN = [428, 429, 430, 431, 432, 433, 438, 442, 443, 467];
/** io_uring, clone3 (glibc goes on with clone, whose flags a filter can see) and memfd_secret. */
const COMMON_ABSENT = [425, 426, 427, 435, 447];

/* The numbers are those of the kernel's syscall tables, in the order: ptrace, process_vm_readv, process_vm_writev, kcmp;
   mount, umount2, pivot_root, chroot, unshare, setns; add_key, request_key, keyctl; bpf, perf_event_open, userfaultfd,
   fanotify_init; name_to_handle_at, open_by_handle_at; kexec_load, kexec_file_load, init_module, finit_module,
   delete_module; reboot, swapon, swapoff, acct, quotactl, syslog; sethostname, setdomainname, settimeofday,
   clock_settime, adjtimex; mbind, set_mempolicy, migrate_pages, move_pages. Absent are memfd_create, shmget, semget, msgget
   and mq_open: memory that belongs to no process, which nobody could count. */
const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  x64: {
    audit: 0xc000003e,
    foreignFrom: 0x40000000,
    clone: 56,
    socket: 41,
    forbidden: [
      101, 310, 311, 312, 165, 166, 155, 161, 272, 308, 248, 249, 250, 321, 298, 323, 300, 303, 304, 246, 320, 175, 313,
      176, 169, 167, 168, 163, 179, 103, 170, 171, 164, 227, 159, 237, 238, 256, 279, 172, 173,
    ],
    absent: [319, 29, 64, 68, 240],
  },
  arm64: {
    audit: 0xc00000b7,
    clone: 220,
    socket: 198,
    forbidden: [
      117, 270, 271, 272, 40, 39, 41, 51, 97, 268, 217, 218, 219, 280, 241, 282, 262, 264, 265, 104, 294, 105, 273, 106,
      142, 224, 225, 89, 60, 116, 161, 162, 170, 112, 171, 235, 237, 238, 239,
    ],
    absent: [279, 194, 190, 186, 180],
  },
};

const returnIf = (syscall: number, answer: number): readonly Line[] => [
  [JUMP_EQUAL, 0, 1, syscall],
  [RETURN, 0, 0, answer],
];

const linesFor = (architecture: Architecture): readonly Line[] => [
  [LOAD_WORD, 0, 0, AT_ARCHITECTURE],
  [JUMP_EQUAL, 1, 0, architecture.audit],
  [RETURN, 0, 0, KILL],
  [LOAD_WORD, 0, 0, AT_SYSCALL],
  ...(architecture.foreignFrom === undefined
    ? []
    : ([
        [JUMP_AT_LEAST, 0, 1, architecture.foreignFrom],
        [RETURN, 0, 0, ENOSYS],
      ] satisfies Line[])),
  ...[...architecture.forbidden, ...COMMON_FORBIDDEN].flatMap((syscall) => returnIf(syscall, EPERM)),
  ...[...architecture.absent, ...COMMON_ABSENT].flatMap((syscall) => returnIf(syscall, ENOSYS)),
  [JUMP_EQUAL, 0, 4, architecture.clone],
  [LOAD_WORD, 0, 0, AT_FIRST_ARGUMENT],
  [JUMP_ANY_BIT, 0, 1, NEW_NAMESPACES],
  [RETURN, 0, 0, EPERM],
  [RETURN, 0, 0, ALLOW],
  [JUMP_EQUAL, 0, SOCKET_FAMILIES.length * 2 + 2, architecture.socket],
  [LOAD_WORD, 0, 0, AT_FIRST_ARGUMENT],
  ...SOCKET_FAMILIES.flatMap((family) => returnIf(family, ALLOW)),
  [RETURN, 0, 0, EAFNOSUPPORT],
  [RETURN, 0, 0, ALLOW],
];

/**
 * A seccomp program as bubblewrap's `--seccomp` reads it (an array of `struct sock_filter`), for the processor this process
 * runs on; `undefined` for one it does not know. It forbids by list, because servers of all kinds have to run under it: the
 * namespaces are what isolates, this keeps programs from making their own and narrows what they can try on the kernel.
 */
export const seccompFilter = (processor: string = process.arch): Buffer | undefined => {
  const architecture = ARCHITECTURES[processor];
  if (architecture === undefined) return undefined;
  const lines = linesFor(architecture);
  const program = Buffer.alloc(lines.length * 8);
  for (const [index, [code, jumpTrue, jumpFalse, operand]] of lines.entries()) {
    program.writeUInt16LE(code, index * 8);
    program.writeUInt8(jumpTrue, index * 8 + 2);
    program.writeUInt8(jumpFalse, index * 8 + 3);
    program.writeUInt32LE(operand >>> 0, index * 8 + 4);
  }
  return program;
};
