// The records that the canvas's scripts hand to each other, as the type checker reads them; nothing of this is served.
// What travels (Message and what it holds) is written by analysis/canvas/wire.py; its fields keep the names they have there.
// A "cell" is a drawing position: layer * N + rank, rank 0 being the leftmost neuron of its layer.

export type Context = CanvasRenderingContext2D;
/** Red, green, blue, each 0 to 255. */
export type Rgb = number[];
/** null: not measured. */
export type Measured = number | null;

// ---- what travels -------------------------------------------------------------------------------

export type Phase = "base" | "edited" | "training";
/** From layer, to layer, share of all mass. */
export type Ribbon = [from: number, to: number, share: number];

export interface Concept {
  name: string;
  title: string;
  /** Its place among all tracked concepts: what its hue is chosen by. */
  place: number;
}

export interface Scene {
  n_layers: number;
  n_neurons: number;
  concepts: Concept[];
  tracked: string[];
  /** True: a byte is a change (128 none); false: a level. */
  signed: boolean;
  unit: string;
  since: string;
  task: { question: string; measure: string; trained: string; held_out: string };
  full_scale: number;
  edit_label: string;
  total_steps: number;
  n_pruned: number;
  /** Flat indices layer * N + neuron. */
  followed: number[];
}

/** One moment of a run or of its control; lists are per concept. */
export interface Curve {
  phase: Phase;
  step: number;
  layer_change: Measured[][];
  centre: Measured[];
  distance: Measured[];
  retrained: Measured;
  held_out: Measured;
  neutral_loss: Measured;
}

export interface SentMarks {
  indices: Uint32Array;
  also: Uint8Array;
}

/** The light part of a snapshot as it arrives. */
export interface SentFrame extends Curve {
  index: number;
  n_recruits: number[];
  n_survivors: number[];
  recruits: SentMarks[];
  survivors: SentMarks[];
  flow: Ribbon[][];
  followed: Measured[][];
  /** null: as in the snapshot before. */
  words: (string[] | null)[];
  similarity: Measured[];
}

export interface CardScore {
  title: string;
  place: number;
  before: number;
  edited: number;
  now: number;
  threshold: number;
  carries: boolean;
}

export interface Card {
  neuron: string;
  hook: string;
  layer: number;
  index: number;
  snapshot: number;
  role: string;
  scores: CardScore[];
  followed: boolean;
  words_before: string[];
  words_now: string[];
  similarity: Measured;
}

export interface SentValues {
  index: number;
  /** One array of L * N bytes a concept. */
  values: Uint8Array[];
}

/** A message before its bytes are taken apart: `values` are the numbers of the snapshots whose values follow. */
export interface Header extends Omit<Message, "frames" | "values" | "order" | "pruned"> {
  frames: Omit<SentFrame, MarkKind>[];
  values: number[];
}

export interface Message {
  epoch: string;
  /** Counts the messages with content to this browser. */
  number: number;
  start: number;
  control_start: number;
  live: boolean;
  status: string;
  half_steps: Record<string, Measured>;
  scene: Scene;
  frames: SentFrame[];
  control: Curve[];
  values: SentValues[];
  net: Record<string, Ribbon[][]>;
  card: Card | null;
  /** Only where start is 0. */
  order?: Uint16Array;
  pruned?: Uint32Array;
}

// ---- what is held -------------------------------------------------------------------------------

export interface Marks {
  cells: Uint32Array;
  /** Place of the strongest other tracked concept each carries, 255 for none. */
  also: Uint8Array;
  /** For how many snapshots each has stood. */
  age: Uint16Array;
  /** 1 where it stands in the next snapshot. */
  stays: Uint8Array;
}

export type MarkKind = "recruits" | "survivors";
/** The control between two of its snapshots. */
export type Ghost = Pick<Curve, "layer_change" | "centre">;

export interface Frame extends Curve {
  index: number;
  recruits: Marks[];
  survivors: Marks[];
  flow: Ribbon[][];
  net: Ribbon[][] | null;
  followed: Measured[][];
  words: string[][];
  similarity: Measured[];
  values: Uint8Array[] | null;
  raster: { layout: Layout; planes: Uint8Array[] } | null;
  ghost: Ghost | null;
}

/** A snapshot whose values are in memory. */
export type HeldFrame = Frame & { values: Uint8Array[] };

/** What ribbons are made of. */
export type FlowMoment = Pick<Frame, "net" | "flow">;

/** Ranges of the axes. */
export interface Extent {
  change: number;
  flow: number;
  distance: number;
  answer: number;
  centre: [number, number] | null;
  loss: [number, number] | null;
}

/** What has arrived; nothing of a scene before the first message. */
export interface Store {
  epoch: string | null;
  /** Of the newest message. */
  number: number;
  /** Whether the newest message followed on what is held. */
  joined: boolean;
  scene: Scene | null;
  frames: Frame[];
  control: Curve[];
  live: boolean;
  status: string;
  half: Record<string, Measured>;
  card: Card | null;
  held: number;
  rasters: Frame[];
  order?: Uint16Array;
  rank?: Uint16Array;
  plainIndex?: boolean;
  pruned?: Uint32Array;
  isPruned?: Set<number>;
  followed?: Uint32Array;
  extent?: Extent;
}

/** A store whose scene has arrived. */
export interface OpenStore extends Store {
  epoch: string;
  scene: Scene;
  /** Flat position -> neuron of its layer. */
  order: Uint16Array;
  /** Flat index of a neuron -> its rank. */
  rank: Uint16Array;
  plainIndex: boolean;
  pruned: Uint32Array;
  isPruned: Set<number>;
  followed: Uint32Array;
  extent: Extent;
}

/** The two snapshots around a playhead and how far it is between them, 0 to 1. */
export interface Sample {
  from: Frame;
  to: Frame;
  t: number;
}

// ---- where and how it is drawn ------------------------------------------------------------------

export interface Rect {
  x: number;
  y: number;
  w: number;
  h: number;
}

/** A panel with a row for each layer; pitch and row in CSS pixels. */
export interface LayerPanel extends Rect {
  pitch: number;
  row: number;
}

/** The grid of a layer's cells, in device pixels; `group` neurons share one cell. */
export interface Grid {
  subRows: number;
  columns: number;
  cellW: number;
  cellH: number;
  group: number;
}

export interface MapPanel extends LayerPanel, Grid {
  imageRows: number;
}

export interface Sides {
  flow: LayerPanel;
  bars: LayerPanel;
}

export type PanelName = "answer" | "centre" | "distance" | "loss";

export interface TimePanel extends Rect {
  name: PanelName;
}

export interface Layout {
  width: number;
  height: number;
  dpr: number;
  stacked: boolean;
  n_layers: number;
  n_neurons: number;
  map: MapPanel;
  flow: LayerPanel;
  bars: LayerPanel;
  times: TimePanel[];
  axisY: number;
  lanes: Rect & { count: number };
}

export interface TimeScale {
  /** Width set apart for the base. */
  gap: number;
  last: number;
  ofStep(step: number): number;
  of(moment: { phase: Phase; step: number }): number;
}

export interface Theme {
  page: Rgb;
  text: Rgb;
  font: string;
  dark: boolean;
}

export interface Sprite {
  canvas: HTMLCanvasElement;
  radius: number;
}

/** From a gain, 0 to 1, to a colour. */
export type Ramp = (gain: number) => Rgb;

export interface Palette extends Theme {
  cell: Rgb;
  hues: Rgb[];
  hueOf(place: number): Rgb;
  ramps: Ramp[];
  /** Byte -> offsets of red, green and blue from the neutral cell. */
  tables: Int16Array[];
  /** Byte -> finished pixel, for one concept alone. */
  colors: Uint32Array;
  lost: Rgb;
  ink(alpha: number): string;
  sprites: { halo: Sprite; dot: Sprite }[];
  legend: string[];
}

export interface Surface {
  canvas: HTMLCanvasElement;
  context: Context;
  image: ImageData;
  pixels: Uint32Array;
}

export interface Scars {
  hatch: HTMLCanvasElement;
  outline: HTMLCanvasElement;
  margin: number;
}

export interface TextOptions {
  size?: number;
  weight?: number;
  align?: CanvasTextAlign;
  baseline?: CanvasTextBaseline;
  alpha?: number;
  color?: string;
}

export interface Label {
  text: string;
  y: number;
  color?: string;
}

/** One curve of a panel along time. */
export interface PanelCurve {
  value(curve: Curve): Measured;
  stroke(alpha: number): string;
  dash: number[];
  width: number;
  text(value: number): string;
  color?: string;
}

export interface PanelContent {
  title: string;
  note: string;
  range: [number, number];
  ticks: number;
  curves: PanelCurve[];
  /** Whether the level before the edit is drawn across. */
  baseline: boolean;
}

/** As long as a followed neuron's words stay the same; `first` and `last` are snapshots. */
export interface Stretch {
  first: number;
  last: number;
  words: string[];
  fresh: Set<string>;
  similarity: Measured | undefined;
}

/** From a value to its y in a panel. */
export type Height = (value: number) => number;

/** What is drawn when something arrives. */
export type DrawStill = (context: Context, layout: Layout, palette: Palette, store: OpenStore) => void;
/** What is drawn in every frame. */
export type DrawMoving = (
  context: Context, layout: Layout, palette: Palette, store: OpenStore, playhead: number,
) => void;

// ---- the page -----------------------------------------------------------------------------------

export interface Chrome {
  root: HTMLElement;
  moment: HTMLElement;
  progress: HTMLElement;
  live: HTMLElement;
  status: HTMLElement;
  story: HTMLElement;
  legend: HTMLElement;
  spokenNow: HTMLElement;
  stage: HTMLElement;
  still: HTMLCanvasElement;
  moving: HTMLCanvasElement;
  waiting: HTMLElement;
  fetching: HTMLElement;
  back: HTMLButtonElement;
  play: HTMLButtonElement;
  forward: HTMLButtonElement;
  slider: HTMLInputElement;
  speeds: HTMLElement;
  follow: HTMLButtonElement;
  picture: HTMLButtonElement;
  curves: HTMLButtonElement;
  full: HTMLButtonElement;
  keys: HTMLButtonElement;
  card: HTMLElement;
  help: HTMLElement;
  tooltip: HTMLElement;
}

export type Counters = Record<MarkKind, HTMLElement[]>;
/** A statement of the story. */
export interface Told {
  value: string;
  detail: string;
}
export type StoryPart = "removed" | "back" | "moved";
export type Story = Record<StoryPart, Record<keyof Told, HTMLElement>>;

/** What lies under the pointer; `lines` are what the tooltip says of it. */
export interface Target {
  lines(): string[];
  cell?: number;
  layer?: number;
  lane?: number;
  /** A snapshot on the time axis. */
  index?: number;
  /** A cell to choose. */
  chosen?: number;
}

/** The part of a view that knows time. */
export interface Player {
  store: Pick<Store, "live"> & { frames: Pick<Frame, "values">[] };
  playhead: number;
  playing: boolean;
  following: boolean;
  /** The snapshot on which the playhead comes to rest. */
  rest: number;
  pending: number;
  speed: number;
  started: boolean;
  /** Milliseconds of the last tick; 0 while nothing moves. */
  clock: number;
  motion: Pick<MediaQueryList, "matches">;
}

/** One mounted canvas. */
export interface View extends Player, Callbacks {
  store: Store;
  motion: MediaQueryList;
  chrome: Chrome;
  story: Story;
  calls: number;
  stop: AbortController;
  observer: ResizeObserver;
  counters: Counters | null;
  width: number;
  request: number;
  /** Draws one animation frame. */
  tick(now: number): void;
  /** The playhead that the cells were painted for. */
  drawn: number | null;
  layout: Layout | null;
  palette: Palette | null;
  surface: Surface | null;
  scars: Scars | null;
  theme: Theme | null;
  themeRead: boolean;
  stillStale: boolean;
  hover: Target | null;
  scrubbing: boolean;
  pointer: { x: number; y: number };
  tip: string;
  /** What the server was last told is missing. */
  asked: string;
  shown: number;
  lastData: Uint8Array | null;
  /** "layer.neuron", or "" if none is chosen. */
  neuron: string;
  chosenCell: number | null;
  told: string | null;
  rested: number;
  spokenAt: number;
}

/** A view that has a scene, a width and everything that depends on them. */
export interface PreparedView extends View {
  store: OpenStore;
  layout: Layout;
  palette: Palette;
  surface: Surface;
  scars: Scars;
  counters: Counters;
}

export type Parent = HTMLElement | ShadowRoot;

/** How a view tells the server something. */
export interface Callbacks {
  setStateValue(name: string, value: string): void;
  setTriggerValue(name: string, value: unknown): void;
}

/** What Streamlit calls the component with. */
export interface ComponentCall extends Callbacks {
  data: unknown;
  parentElement: Parent;
}
