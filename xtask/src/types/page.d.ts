/** `detail` of the event `rollbacklab:error`. */
export interface LabError {
  /** Why there is no match, as a sentence for the participant. */
  message: string;
  /**
   * What failed. The page, before the program runs: `graphics` (no WebGL2), `download`,
   * `instantiate`. The program: `start` (settings in the address, a file to watch), `session`,
   * `panic`.
   */
  phase: "graphics" | "download" | "instantiate" | "start" | "session" | "panic";
}

/** The result of `replayEpisode`. */
export interface Replayed {
  /** Frames of the file that were played. */
  frames: number;
  /** Rollbacks that ran again; 0 in the canonical history. */
  rollbacks: number;
  /** Frames simulated, those simulated again included. */
  simulated: number;
  /** State hashes of the file that were compared. */
  hashesChecked: number;
  /** The first difference; `null` if everything agreed. */
  firstDifference: {
    what: "initialState" | "state" | "historyDigest";
    /** The state before this frame; `null` of the digest. */
    frame: number | null;
    recorded: Hex64;
    /** `null` if the game computes no checksum. */
    replayed: Hex64 | null;
  } | null;
  /** At least one hash was compared, and nothing differed. */
  proven: boolean;
  /** The same in a sentence. */
  message: string;
  /** Time it took, set-up included, in milliseconds. */
  ms: number;
}

declare global {
  interface Window {
    /** The running episode with `episode.isPartial: true`, else the last one; `null` before the first. */
    exportSessionMetrics(): EpisodeDocument | null;
    /** Every episode of this page so far, the running one last. */
    exportSessionMetrics(options: { all: true }): EpisodeDocument[];
    /**
     * Plays an episode headless and compares every state hash; with `asSeen` as its peer saw it,
     * predictions and rollbacks included. Throws where the file is not of this game. On pages whose
     * game calls `web::install_replay`.
     */
    replayEpisode(document: EpisodeDocument | string, options?: { asSeen?: boolean }): Replayed;
  }

  interface WindowEventMap {
    /** An episode's document is complete. */
    "rollbacklab:episode": globalThis.CustomEvent<EpisodeDocument>;
    /** The session document changed. */
    "rollbacklab:session": globalThis.CustomEvent<SessionDocument>;
    /** The peers computed different states. */
    "rollbacklab:desync": globalThis.CustomEvent<DesyncBundle>;
    /** The session failed, or could not begin. */
    "rollbacklab:error": globalThis.CustomEvent<LabError>;
  }
}
