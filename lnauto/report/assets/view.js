// The volume viewer: NiiVue as its notebook widget brings it, with models of our own in the notebook's place.
import widget from "./niivue.js";

const NODE = [6, 214, 224];

// What a notebook widget expects of its model: states with listeners. Nothing is sent back to a notebook, as there is none.
class Model {
  _comm_live = false;
  constructor(state, heard) { this.state = state; this.listeners = new Map(); this.heard = heard; this.widget_manager = { get_model: async (id) => models.get(id) }; }
  get(name) { return this.state[name]; }
  set(name, value) {
    if (this.state[name] === value) return;
    this.state[name] = value;
    this.tell(`change:${name}`);
  }
  on(name, act) { this.listeners.set(name, [...(this.listeners.get(name) || []), act]); }
  off(name, act) { this.listeners.set(name, act ? (this.listeners.get(name) || []).filter((each) => each !== act) : []); }
  tell(name, ...values) { for (const act of this.listeners.get(name) || []) act(...values); }
  ask(type, ...data) { this.tell("msg:custom", { type, data }, []); }
  save_changes() {}
  send(message) { this.heard?.(message); }
  send_sync_message() { return ""; }
}

const models = new Map();
const $ = (id) => document.getElementById(id);
const run = await (await fetch("run.json")).json();
let shown = null, image = 0, loads = 0;

const viewer = new Model({
  height: 600, volumes: [], meshes: [], this_model_id: "", graph: {}, scene: null, draw_lut: null, draw_opacity: 0.8,
  draw_fill_overwrites: true, background_masks_overlays: 0, overlay_outline_width: 0, overlay_alpha_shader: 1,
  opts: {
    sliceType: 3, isRadiologicalConvention: true, sagittalNoseLeft: true, multiplanarShowRender: 1, isSliceMM: false, crosshairWidth: 1, crosshairGap: 12,
    crosshairColor: [1, 0.82, 0.4, 0.6], backColor: [0, 0, 0, 1], isNearestInterpolation: false, isOrientCube: true, dragMode: 1,
    isResizeCanvas: true, atlasOutline: 1, loadingText: "loading ...", logLevel: "error",
  },
}, ({ event, data }) => {
  if (event !== "location_change") return;
  const [x, y, z] = data.mm;
  $("at").textContent = `left ${(-x).toFixed(1)}, back ${(-y).toFixed(1)}, head ${z.toFixed(1)} mm`;
});

// The outline of a node is drawn whole, what is inside it as strongly as asked for.
const fill = () => ($("masked").checked ? Number($("fill").value) : 0);

function volume(layer, at, more) {
  const id = `${layer} ${loads}`;
  models.set(id, new Model({
    id, url: new URL(at, location.href).href, name: at.split("/").pop(), path: {}, paired_img_path: {}, paired_img_url: "", opacity: 1,
    colormap: "gray", colormap_negative: "", colormap_type: 0, colormap_invert: false, colormap_label: null, frame_4d: 0,
    cal_min: null, cal_max: null, cal_min_neg: null, cal_max_neg: null, colorbar_visible: false, modulation_image: null, modulate_alpha: 0, ...more,
  }));
  return `IPY_MODEL_${id}`;
}

const layer = (name) => models.get(`${name} ${loads}`);

function load() {
  const case_ = shown;
  models.clear();
  loads += 1;
  const picture = case_.images[image], { low = null, high = null, inverted = false } = picture.windows[0] || {};
  const volumes = [volume("image", picture.at, { cal_min: low, cal_max: high, colormap_invert: inverted })];
  volumes.push(volume("mask", case_.mask, { colormap_label: { lut: [0, 0, 0, 0, ...NODE, 255], min: 0, max: 1, labels: ["", "node"] }, opacity: fill() }));
  if (case_.probability)
    volumes.push(volume("likely", case_.probability, { colormap: "hot", cal_min: 0.05, cal_max: 1, opacity: $("likely").checked ? 0.5 : 0 }));
  viewer.set("volumes", volumes);
}

function choose(number) {
  shown = run.cases[number];
  $("missing").textContent = shown.missing || "";
  $("likely").closest("label").hidden = !shown.probability;
  options("image", shown.images.map((each) => each.name), shown.images.length > 1);
  $("nodes").replaceChildren(...shown.nodes.map((node) => {
    const row = document.createElement("tr"), button = document.createElement("button");
    button.textContent = node.number;
    button.addEventListener("click", () => jump(node, row));
    const words = ["", `${node.short_axis_mm.toFixed(1)} mm`, `${node.volume_ml.toFixed(2)} ml`, node.station ?? "–"];
    row.append(...words.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    row.firstChild.append(button);
    return row;
  }));
  pick(0);
}

function pick(number) {
  image = number;
  const windows = shown.images[image]?.windows || [];
  options("window", windows.map(({ name }) => name), windows.length > 1);
  if (shown.images.length) load();
  else viewer.set("volumes", []);
}

function options(id, names, worth) {
  $(id).replaceChildren(...names.map((name, number) => new Option(name, number)));
  $(id).closest("label").hidden = !worth;
}

// Millimetres to the viewer's own coordinates, by the matrix it keeps for the image.
function jump(node, row) {
  const matrix = layer("image")?.get("frac2mm");
  if (!matrix) return;
  for (const each of $("nodes").children) each.classList.toggle("chosen", each === row);
  const [x, y, z] = node.place;
  viewer.state.scene = null;
  viewer.set("scene", { crosshairPos: solve(matrix, [-x, -y, z]) });  // the viewer's axes grow to the right and to the front
  viewer.ask("draw_scene");
  $("at").textContent = `node ${node.number}: left ${x.toFixed(1)}, back ${y.toFixed(1)}, head ${z.toFixed(1)} mm`;
}

// Where an affine map (by columns, as WebGL has it) comes from that leads to `to`: Cramer's rule.
function solve(m, to) {
  const columns = [0, 4, 8].map((k) => [m[k], m[k + 1], m[k + 2]]), right = to.map((value, k) => value - m[12 + k]);
  const det = ([a, b, c]) => a[0] * (b[1] * c[2] - b[2] * c[1]) - b[0] * (a[1] * c[2] - a[2] * c[1]) + c[0] * (a[1] * b[2] - a[2] * b[1]);
  return [0, 1, 2].map((k) => det(columns.map((column, j) => (j === k ? right : column))) / det(columns));
}

window.addEventListener("unhandledrejection", () => {
  $("missing").textContent = "A file of this case cannot be shown. What is wrong with it stands where lnauto_view was started.";
});

document.title = $("title").textContent = run.title;
options("case", run.cases.map((each) => each.name), true);
$("case").addEventListener("change", (event) => choose(Number(event.target.value)));
$("image").addEventListener("change", (event) => pick(Number(event.target.value)));
$("window").addEventListener("change", (event) => {
  const { low, high } = shown.images[image].windows[Number(event.target.value)];
  layer("image").set("cal_min", low);
  layer("image").set("cal_max", high);
});
$("layout").addEventListener("change", (event) => {
  viewer.set("opts", { ...viewer.get("opts"), sliceType: Number(event.target.value) });
  viewer.ask("draw_scene");
});
for (const id of ["masked", "fill"]) $(id).addEventListener("input", () => layer("mask")?.set("opacity", fill()));
$("likely").addEventListener("change", (event) => layer("likely")?.set("opacity", event.target.checked ? 0.5 : 0));
const place = $("canvas");
viewer.state.height = place.clientHeight;
await widget.initialize({ model: viewer });
await widget.render({ model: viewer, el: place });
new ResizeObserver(() => { viewer.set("height", place.clientHeight); viewer.ask("resize_listener"); }).observe(place);
if (run.cases.length) choose(0);
document.body.dataset.ready = "yes";
