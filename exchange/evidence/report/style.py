"""The certificate's style: A4, black and white, the annex on pages of its own."""

from typing import Final

STYLE: Final = """
@page { size: A4; margin: 12mm }
body { font: 10.5pt/1.45 "Noto Serif CJK SC", "Source Han Serif SC", SimSun, serif;
  color: #000; background: #fff; max-width: 180mm; margin: 0 auto; padding: 4mm }
h1 { font-size: 16pt; text-align: center; margin: 0 0 2mm }
h2 { font-size: 13pt; border-top: 2px solid #000; padding-top: 3mm; margin: 4mm 0 1mm }
h3 { font-size: 11pt; margin: 4mm 0 1mm; break-after: avoid }
h2, tr, figure, .verdict, .why { break-inside: avoid; break-after: auto }
h2 { break-after: avoid }
code { font: 9pt/1.4 "DejaVu Sans Mono", Consolas, monospace; overflow-wrap: anywhere }
span[lang=en] { font-family: "DejaVu Serif", "Times New Roman", serif; font-size: 88% }
.verdict { display: inline-block; padding: 1.5mm 4mm; margin: 1mm 0; font-weight: bold }
.verdict.good { border: 2px solid #000; border-radius: 6mm }
.verdict.bad { border: 6px double #000; text-transform: none }
.sign { font-size: 14pt }
.why { border-left: 4px solid #000; margin: 2mm 0; padding: 1mm 4mm 1mm 8mm }
table { border-collapse: collapse; width: 100%; margin: 1mm 0 }
th, td { border: 1px solid #888; padding: .8mm 1.6mm; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; font-size: 9.5pt }
th { font-weight: normal; color: #333 }
.facts th { width: 34% }
.beside th, .beside td { font-size: 8.5pt; line-height: 1.25; padding: .3mm 1.2mm }
.beside th { width: 21% }
.beside td { width: 29% }
.seals img { max-height: 30mm; width: auto !important }
.checks td:nth-child(1) { width: 9mm; text-align: right }
.checks td:nth-child(2) { width: 23mm; white-space: nowrap }
.checks td:nth-child(3) { width: 38mm }
.checks .fail td { border-top: 2px solid #000; border-bottom: 2px solid #000; font-weight: bold }
.checks .fail td:nth-child(2) { outline: 2px solid #000; outline-offset: -3px }
.checks .note td:nth-child(2) { text-decoration: underline }
.certificates td:nth-child(1) { width: 24mm }
.certificates td:nth-child(2) { width: 62mm }
.seals { display: flex; gap: 6mm; justify-content: center; align-items: flex-end }
.annex { break-before: page }
figure { margin: 0; text-align: center; flex: 0 0 auto; max-width: 60mm; position: relative }
figure img { max-width: 100%; height: auto; display: block; margin: 0 auto }
figcaption { font-size: 8.5pt }
figure.none { border: 1px dashed #000; padding: 4mm; max-width: 36mm }
figure.void img { filter: grayscale(1); opacity: .3 }
figure.void b { position: absolute; top: 30%; left: 0; right: 0; border: 3px double #000;
  background: #fff; padding: 1mm }
footer { border-top: 1px solid #000; margin-top: 8mm; padding-top: 2mm; font-size: 9pt }
"""
