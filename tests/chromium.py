"""Drive headless Chromium by its DevTools protocol, over a pipe."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')


class Browser:
    """One page; ``requests`` holds the URLs of everything that it has asked for, ``errors`` its uncaught exceptions."""

    def __init__(self, profile, width=1280, height=900):
        (its_input, self._out), (self._in, its_output) = os.pipe(), os.pipe()
        # Chromium reads commands from descriptor 3 and writes to 4.
        shell = ['bash', '-c', f'exec "$@" 3<&{its_input} 4>&{its_output}', 'bash']
        options = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars']
        options += ['--remote-debugging-pipe', f'--user-data-dir={profile}', f'--window-size={width},{height}']
        options += ['--no-proxy-server', '--force-prefers-reduced-motion', 'about:blank']
        self._process = subprocess.Popen(
            [*shell, CHROMIUM, *options], pass_fds=(its_input, its_output), stderr=subprocess.DEVNULL
        )
        os.close(its_input)
        os.close(its_output)
        self._number, self._buffer, self._session = 0, b'', None
        self.requests, self.errors = [], []
        (target,) = [info for info in self.call('Target.getTargets')['targetInfos'] if info['type'] == 'page']
        found = self.call('Target.attachToTarget', targetId=target['targetId'], flatten=True)
        self._session = found['sessionId']
        for domain in ('Page', 'Runtime', 'Network', 'DOM'):
            self.call(f'{domain}.enable')
        self.call(
            'Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def call(self, method, **params):
        self._number += 1
        message = dict(id=self._number, method=method, params=params)
        if self._session:
            message['sessionId'] = self._session
        os.write(self._out, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._read()
            if answer.get('id') == self._number:
                assert 'error' not in answer, answer
                return answer['result']
            if answer.get('method') == 'Network.requestWillBeSent':
                self.requests.append(answer['params']['request']['url'])
            elif answer.get('method') == 'Runtime.exceptionThrown':
                self.errors.append(answer['params']['exceptionDetails'])

    def _read(self):
        while b'\0' not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], 300)
            part = os.read(self._in, 1 << 20) if ready else b''
            assert part, 'Chromium does not answer'
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b'\0')
        return json.loads(message)

    def js(self, expression):
        """The value of an expression; a promise is awaited."""
        done = self.call('Runtime.evaluate', expression=expression, awaitPromise=True, returnByValue=True)
        assert 'exceptionDetails' not in done, done['exceptionDetails']
        return done['result'].get('value')

    def wait(self, expression, seconds=300):
        """Wait until an expression is true; returns its value, which must be no element: those are empty here."""
        end = time.monotonic() + seconds
        while not (value := self.js(expression)):
            assert time.monotonic() < end, f'never true: {expression}'
            time.sleep(0.1)
        return value

    def click(self, selector, share=(0.5, 0.5)):
        """Press the mouse on an element, at a share of its width and height."""
        x, y = self.js(
            f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();
            return [r.left + {share[0]} * r.width, r.top + {share[1]} * r.height]; }})()"""
        )
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    def upload(self, selector, *paths):
        """Give files to an input."""
        found = self.call('Runtime.evaluate', expression=f'document.querySelector({json.dumps(selector)})')
        self.call('DOM.setFileInputFiles', files=[str(path) for path in paths], objectId=found['result']['objectId'])

    def screenshot(self, path):
        """Of the whole page."""
        image = self.call('Page.captureScreenshot', captureBeyondViewport=True)['data']
        path.write_bytes(base64.b64decode(image))

    def close(self):
        self._session = None
        self.call('Browser.close')
        self._process.wait(60)
        os.close(self._in)
        os.close(self._out)
