"use strict";
(function () {
  const SVG = "http://www.w3.org/2000/svg";

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  // ---- tables

  function keyOf(row, column) {
    const key = row.cells[column].dataset.key;
    return key === "" ? null : key !== undefined && !isNaN(key) ? Number(key) : String(key).toLowerCase();
  }

  function sortBy(table, column, head) {
    const rising = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const one = keyOf(a, column), other = keyOf(b, column);
      if (one === null || other === null) return one === other ? 0 : one === null ? 1 : -1;
      if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
      return (one < other ? -1 : one > other ? 1 : 0) * (rising ? 1 : -1);
    });
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable"))
    [...table.tHead.rows[0].cells].forEach((head, column) =>
      head.querySelector("button").addEventListener("click", () => sortBy(table, column, head)));

  for (const field of document.querySelectorAll("input[type=search]"))
    field.addEventListener("input", () => {
      const wanted = field.value.trim().toLowerCase();
      for (const row of document.getElementById(field.dataset.table).tBodies[0].rows)
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });

  // ---- one plane of a case: a slice, what lies over it, and a slider

  class Plane {
    constructor(plane, viewer) {
      this.plane = plane;
      this.viewer = viewer;
      this.image = make("img", { alt: "" });
      this.shade = make("img", { class: "shade", alt: "" });
      this.over = document.createElementNS(SVG, "svg");
      this.over.setAttribute("viewBox", `0 0 ${plane.width} ${plane.height}`);
      this.over.setAttribute("preserveAspectRatio", "none");
      this.slider = make("input", { type: "range", min: 0, max: plane.slices.length - 1, value: 0,
        "aria-label": `${plane.name} slice`, oninput: () => this.show() });
      this.at = make("div", { class: "at" });
      const view = make("div", { class: "view", style: `aspect-ratio: ${plane.aspect}` }, this.image, this.shade, this.over,
        ...["left", "right", "top", "bottom"].map((side, k) => make("span", { class: `letter ${side}` }, plane.letters[k])));
      view.addEventListener("wheel", (event) => { event.preventDefault(); this.move(Math.sign(event.deltaY)); }, { passive: false });
      this.root = make("div", { class: "plane", "data-plane": plane.name }, view, this.slider, this.at);
      this.go(Math.floor((plane.slices.length - 1) / 2));
    }
    go(index) { this.slider.value = index; this.show(); }
    move(by) { this.go(Number(this.slider.value) + by); }
    show() {
      const slice = this.plane.slices[Number(this.slider.value)];
      this.image.src = `data:image/${this.viewer.kind};base64,${slice.pictures[this.viewer.window]}`;
      this.image.alt = `${this.plane.name} slice ${slice.at} of ${this.plane.count}`;
      this.shade.hidden = !(this.viewer.shaded && slice.shade);
      if (!this.shade.hidden) this.shade.src = `data:image/${this.viewer.kind};base64,${slice.shade}`;
      const beside = slice.drawn !== undefined;  // what a person drew, in another colour
      const lines = (outlines, kind) => (this.viewer.outlined ? outlines : []).map(([number, path]) => {
        const line = document.createElementNS(SVG, "path");
        line.setAttribute("d", path);
        const chosen = this.viewer.chosen === number && this.viewer.chosenKind === kind;
        line.setAttribute("class", [kind === "drawn" ? "drawn" : "", chosen ? (beside ? "thick" : "chosen") : ""].join(" ").trim());
        return line;
      });
      this.over.replaceChildren(...lines(slice.drawn || [], "drawn"), ...lines(slice.outlines, "node"));
      const named = (outlines, name) => outlines.length
        ? `, ${name}${outlines.length > 1 ? "s" : ""} ${outlines.map(([number]) => number).join(", ")}` : "";
      this.at.textContent = `${this.plane.name} ${slice.at} of ${this.plane.count}` +
        (beside ? named(slice.drawn, "drawn node") + named(slice.outlines, "predicted node") : named(slice.outlines, "node"));
    }
  }

  // ---- a case

  class Viewer {
    constructor(place, data) {
      this.window = 0; this.outlined = true; this.shaded = false; this.chosen = null; this.chosenKind = "node";
      this.place = place;
      this.kind = data.kind;
      this.planes = data.planes.map((plane) => new Plane(plane, this));
      const tools = make("div", { class: "tools" });
      if (data.windows.length > 1)
        tools.append(make("label", {}, "Window ", make("select", { onchange: (event) => { this.window = event.target.selectedIndex; this.show(); } },
          ...data.windows.map((name) => make("option", {}, name)))));
      tools.append(this.toggle("Outline", "outlined"));
      if (data.planes.some((plane) => plane.slices.some((slice) => slice.shade))) tools.append(this.toggle("Probability", "shaded"));
      place.replaceChildren(tools, make("div", { class: "planes" }, ...this.planes.map((plane) => plane.root)));
      this.nodes = { node: data.nodes, drawn: data.drawn || [] };
      const first = ["drawn", "node"].find((kind) => this.nodes[kind].length);
      if (first) this.jump(this.nodes[first][0].number, first);
    }
    toggle(name, field) {
      return make("button", { type: "button", class: "tool", "aria-pressed": String(this[field]), onclick: (event) => {
        this[field] = !this[field];
        event.currentTarget.setAttribute("aria-pressed", String(this[field]));
        this.show();
      } }, name);
    }
    show() { for (const plane of this.planes) plane.show(); }
    jump(number, kind) {
      this.chosen = number;
      this.chosenKind = kind;
      const node = this.nodes[kind].find((each) => each.number === number);
      this.planes.forEach((plane, k) => plane.go(node.slices[k]));
      for (const row of this.place.closest("details").querySelectorAll("tbody tr"))
        row.classList.toggle("chosen", row.querySelector(`button[data-${kind}="${number}"]`) !== null);
    }
  }

  const viewers = new Map();
  function open(details) {
    if (!viewers.has(details)) {
      const data = JSON.parse(document.getElementById(details.dataset.case).textContent);
      viewers.set(details, new Viewer(details.querySelector(".viewer"), data));
    }
    return viewers.get(details);
  }
  for (const details of document.querySelectorAll("details.case")) {
    if (!details.dataset.case) continue;
    details.addEventListener("toggle", () => { if (details.open) open(details); });
    details.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-node], button[data-drawn]");
      if (!button) return;
      const kind = button.dataset.node === undefined ? "drawn" : "node";
      open(details).jump(Number(button.dataset[kind]), kind);
    });
    if (details.open) open(details);
  }
  function openNamed() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.matches("details.case")) { target.open = true; target.scrollIntoView(); }
  }
  addEventListener("hashchange", openNamed);
  openNamed();

  addEventListener("beforeprint", () => { for (const details of document.querySelectorAll("details.case")) details.open = true; });
})();
