// Ranks x time: what every rank did at the moments at which GET /strip was asked, newest at the right. The
// answer is what the ranks last reported of themselves; asking does not reach them.
'use strict';

const STRIP_EVERY_MS = 250;
const STRIP_COLUMN = 8;  // pixels of one moment
const STRIP_ROW = 14;

class Strip {
  constructor(canvas, headers) {
    this.canvas = canvas;
    this.headers = headers;
    this.moments = [];
    this.sleep = 0;
    setInterval(() => this.look(), STRIP_EVERY_MS);
  }

  async look() {
    if (document.hidden || this.sleep-- > 0) return;
    let ranks;
    try {
      const answer = await fetch('/strip', {headers: this.headers()});
      if (!answer.ok) throw new Error(answer.statusText);
      ranks = (await answer.json()).ranks;
    } catch {
      this.sleep = 20;  // a server that is gone is not asked four times a second
      return;
    }
    this.moments.push(ranks);
    while (this.moments.length > this.canvas.width / STRIP_COLUMN) this.moments.shift();
    this.draw(ranks.length);
  }

  draw(rows) {
    const height = rows * STRIP_ROW;
    if (this.canvas.height !== height) this.canvas.height = height;
    const pen = this.canvas.getContext('2d');
    pen.clearRect(0, 0, this.canvas.width, height);
    const left = this.canvas.width - this.moments.length * STRIP_COLUMN;
    this.moments.forEach((ranks, column) => {
      ranks.forEach((rank, row) => {
        if (rank.activity === 'computes') {
          pen.fillStyle = `hsl(${(rank.step * 67) % 360} 65% 50%)`;
        } else if (rank.activity === 'waits') {
          pen.fillStyle = '#8886';
        } else {
          return;
        }
        pen.fillRect(left + column * STRIP_COLUMN, row * STRIP_ROW + 1, STRIP_COLUMN, STRIP_ROW - 2);
      });
    });
    pen.fillStyle = getComputedStyle(document.body).color;
    pen.font = '10px monospace';
    this.moments[this.moments.length - 1].forEach((rank, row) => {
      pen.fillText(`stage ${rank.stage} lane ${rank.lane}`, 2, row * STRIP_ROW + 10);
    });
  }
}
